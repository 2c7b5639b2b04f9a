"""The command `fedcore`: it parses options, makes one call and prints a line or two. No logic lives here."""
