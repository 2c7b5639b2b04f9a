"""Files that both sides use: blobs, models, certificates, process files. Below server and client, above the core."""
