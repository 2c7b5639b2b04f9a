"""The machine of a device: what it trains, sends, commits and forgets, by the events that it sees."""
