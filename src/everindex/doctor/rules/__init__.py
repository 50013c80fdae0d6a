"""The rules, one file each; `everindex.doctor.rule.all_rules` finds them by their files."""
