rule import_activations:
    input:
        index=plan.index,
        arrays=plan.imported_folder,
    output:
        plan.path("{trial}", "{method}", "activations", "{shard}.safetensors"),
    log:
        plan.log("import_activations", "{trial}", "{method}", "{shard}"),
    benchmark:
        plan.benchmark("import_activations", "{trial}", "{method}", "{shard}")
    wildcard_constraints:
        method=plan.imported_activations,
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        shard=plan.shard_flags,
        settings=plan.import_flags,
        code=plan.code("import_activations"),
    message:
        "{wildcards.method}: import activations of {wildcards.shard}, trial {wildcards.trial}"
    shell:
        "python -m workflow_scripts.import_activations "
        "--index {input.index:q} --arrays {input.arrays:q} --output {output:q} "
        "{params.shard} {params.settings} "
        "--threads {threads} --log {log:q}"


rule import_seeds:
    input:
        index=plan.index,
        masks=plan.imported_folder,
    output:
        activations=plan.path(
            "{trial}", "{method}", "activations", "{shard}.safetensors"
        ),
        seeds=plan.path("{trial}", "{method}", "seeds", "{shard}.zip"),
        composition=plan.path("{trial}", "{method}", "seeds", "{shard}.json"),
    log:
        plan.log("import_seeds", "{trial}", "{method}", "{shard}"),
    benchmark:
        plan.benchmark("import_seeds", "{trial}", "{method}", "{shard}")
    wildcard_constraints:
        method=plan.imported_seeds,
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        shard=plan.shard_flags,
        code=plan.code("import_seeds"),
    message:
        "{wildcards.method}: import seeds of {wildcards.shard}, trial {wildcards.trial}"
    shell:
        "python -m workflow_scripts.import_seeds "
        "--index {input.index:q} --masks {input.masks:q} "
        "--output {output.activations:q} --seeds {output.seeds:q} "
        "--composition {output.composition:q} {params.shard} "
        "--threads {threads} --log {log:q}"


# In the place of train or train_boundary, which leave these networks to it.
rule import_checkpoint:
    input:
        index=plan.index,
        checkpoint=ancient(plan.checkpoint),
    output:
        plan.path("{trial}", "{network}", "model.safetensors"),
    log:
        plan.log("import_checkpoint", "{trial}", "{network}"),
    benchmark:
        plan.benchmark("import_checkpoint", "{trial}", "{network}")
    wildcard_constraints:
        network=plan.imported_networks,
    # What others wait for goes first: AMN waits for all of this, segmentation for AMN.
    priority: 2
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        settings=plan.checkpoint_flags,
        # Its size and time decide: an older file counts as another one, too.
        file=plan.weights_state(plan.checkpoint),
        code=plan.checkpoint_code,
    message:
        "{wildcards.network}: import the trained network, trial {wildcards.trial}"
    shell:
        "python -m workflow_scripts.import_checkpoint "
        "{input.checkpoint:q} --index {input.index:q} --output {output:q} "
        "{params.settings} --threads {threads} --log {log:q}"
