"""The command line: flags, listing, wording of errors."""
