"""`python -m npc_edge.bench.demo`: see recipe.py."""

from npc_edge.bench.demo.recipe import main

if __name__ == "__main__":
    main()
