"""Bodies: the names of bones in other programs' skeletons, and the mannequin."""
