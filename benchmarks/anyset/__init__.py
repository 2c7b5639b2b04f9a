"""Any data set: what the defaults of every method are worth on data that nobody tuned them for."""
