"""Federated fine-tuning of language models on real devices: pruning and LoRA rank for every device, by a bandit."""
