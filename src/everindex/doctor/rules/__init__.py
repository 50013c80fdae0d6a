"""The rules, one per file; `everindex.doctor.examine.all_rules` discovers the files."""
