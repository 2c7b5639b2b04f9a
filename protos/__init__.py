"""The wire: messages (v1), plain values, and the conversion between the two. No decisions are made here."""
