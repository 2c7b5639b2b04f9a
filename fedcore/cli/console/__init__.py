"""Code that the subcommands share: options, reading a configuration, and output that survives a closed pipe."""
