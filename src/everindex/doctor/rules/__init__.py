"""The rules, one per file; `everindex.doctor.rule.all_rules` discovers the files."""
