"""Virtual devices: who there is, when they are online, how long they take, what befalls them."""
