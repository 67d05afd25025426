"""How long the engine takes, what of the machine it uses, and a peer beside it, run by run: `npc-edge bench`."""
