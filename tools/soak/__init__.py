"""Long runs that try to make a store lose something; each can be repeated with one command.

python -m tools.soak.race --syncs 1000 --processes 64 --caches 1
python -m tools.soak.kills --kills 500
python -m tools.soak.collection --blobs 100000 --packs 2000
"""
