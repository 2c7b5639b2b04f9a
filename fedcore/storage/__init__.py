"""Files both sides share: blob store, checkpoint reading, TLS material. Below server and client, above fedcore."""
