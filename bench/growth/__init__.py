"""`make bench-growth`: do a million stored runs and a hundred thousand waiting ones make anything slower?"""
