# Built from envs/Dockerfile, which says how. Snakemake takes no path with a space.
image = str(Path(workflow.basedir) / "envs" / "wsss-amn-workflow.sif")
if len(image.split()) == 1:

    container: image
