"""What a run's models learn to do: one task a file, and the table of all. No torch: coordinators read it too."""
