"""Replaying recorded runs against the code of this process: does it still ask for the same steps?"""
