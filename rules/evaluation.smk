rule evaluate_seeds:
    input:
        index=plan.index,
        masks=plan.path("{trial}", "{method}", "seeds", "{shard}.zip"),
    output:
        plan.path("{trial}", "{method}", "evaluation", "seeds", "{shard}.json"),
    log:
        plan.log("evaluate_seeds", "{trial}", "{method}", "{shard}"),
    benchmark:
        plan.benchmark("evaluate_seeds", "{trial}", "{method}", "{shard}")
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        shard=plan.shard_flags,
        code=plan.code("evaluate_masks"),
    message:
        "{wildcards.method}: compare seeds of {wildcards.shard} with the truth, trial {wildcards.trial}"
    shell:
        "python -m workflow_scripts.evaluate_masks "
        "--index {input.index:q} --masks {input.masks:q} --output {output:q} "
        "{params.shard} "
        "--threads {threads} --log {log:q}"


rule evaluate_masks:
    input:
        index=plan.index,
        masks=plan.evaluated_masks,
    output:
        plan.path(
            "{trial}", "{method}", "{source}", "evaluation", "{kind}", "{shard}.json"
        ),
    log:
        plan.log(
            "evaluate_masks", "{trial}", "{method}", "{source}", "{kind}", "{shard}"
        ),
    benchmark:
        plan.benchmark(
            "evaluate_masks", "{trial}", "{method}", "{source}", "{kind}", "{shard}"
        )
    wildcard_constraints:
        kind="pseudo_masks|segmentation",
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        shard=plan.shard_flags,
        code=plan.code("evaluate_masks"),
    message:
        "{wildcards.method} {wildcards.source}: compare {wildcards.kind} of {wildcards.shard} with the truth, trial {wildcards.trial}"
    shell:
        "python -m workflow_scripts.evaluate_masks "
        "--index {input.index:q} --masks {input.masks:q} --output {output:q} "
        "{params.shard} "
        "--threads {threads} --log {log:q}"
