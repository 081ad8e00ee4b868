"""HDTF (Zhang et al., CVPR 2021): its metadata tables, the cutting of its clips, and folders of ready ones."""
