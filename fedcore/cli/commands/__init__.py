"""The subcommands that run, show or export something, one file each."""
