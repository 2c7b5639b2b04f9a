"""What the subcommands share: options, settings, and output that survives a closed pipe."""
