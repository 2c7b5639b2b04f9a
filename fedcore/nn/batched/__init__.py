"""Training and scoring of many virtual devices in one pass over a shared base model."""
