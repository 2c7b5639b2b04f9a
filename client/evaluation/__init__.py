"""The evaluator: it measures the global model on held-back rows and makes the exports."""
