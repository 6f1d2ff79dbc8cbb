"""The families of frozen models, one file each; `shared.backbone` finds the one that a model belongs to."""
