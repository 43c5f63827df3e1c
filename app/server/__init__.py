"""How the page meets the network: who may call it and how much they may send, what is written down, and how it ends."""
