"""How long the engine takes, what of the machine it uses, and a peer beside it: `npc-edge bench`."""
