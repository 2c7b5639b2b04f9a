"""One file per subcommand that runs, shows or exports something."""
