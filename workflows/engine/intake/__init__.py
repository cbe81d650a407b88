"""What requests bring, written in groups: those that come while a group is being written form the next one."""
