"""Updates kept one by one until the root combines them: how a bundle grows, turns dense, travels and joins."""
