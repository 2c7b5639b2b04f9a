"""What a server tells the outside about itself: metrics, memory, bytes."""
