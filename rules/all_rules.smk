# What holds for every rule.
wildcard_constraints:
    trial=r"\d+",
    method=r"[A-Za-z0-9_]+",
    source=r"t\d\.\d+|auto|validation|truth",
    shard=r"[A-Za-z0-9_]+-\d+",


# Built from envs/Dockerfile, which says how. Snakemake takes no path with a space.
image = str(Path(workflow.basedir) / "envs" / "wsss-amn-workflow.sif")
if len(image.split()) == 1:

    container: image
