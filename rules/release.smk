rule record_figures:
    input:
        plan.network_evaluations,
    output:
        plan.path("{trial}", "{method}", "{source}", "segmentation", "figures.json"),
    log:
        plan.log("record_figures", "{trial}", "{method}", "{source}"),
    benchmark:
        plan.benchmark("record_figures", "{trial}", "{method}", "{source}")
    localrule: True
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        settings=plan.flags("evaluate_segmentation"),
        code=plan.code("record_figures"),
    message:
        "{wildcards.method} {wildcards.source}: figures beside the weights, trial {wildcards.trial}"
    shell:
        "python -m workflow_scripts.record_figures "
        "--evaluations {input:q} --output {output:q} {params.settings} "
        "--threads {threads} --log {log:q}"


rule export_voc_test:
    input:
        index=plan.index,
        predictions=plan.test_predictions,
    output:
        plan.path("{trial}", "{method}", "{source}", "segmentation", "voc_test.tar.gz"),
    log:
        plan.log("export_voc_test", "{trial}", "{method}", "{source}"),
    benchmark:
        plan.benchmark("export_voc_test", "{trial}", "{method}", "{source}")
    localrule: True
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        code=plan.code("export_voc_test"),
    message:
        "{wildcards.method} {wildcards.source}: archive for VOC's test server, trial {wildcards.trial}"
    shell:
        "python -m workflow_scripts.export_voc_test "
        "--index {input.index:q} --predictions {input.predictions:q} "
        "--out {output:q} --threads {threads} --log {log:q}"
