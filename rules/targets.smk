# They ask for an output of every job: what is missing is made, and what follows from it.
rule train_all:
    input:
        plan.training_half,
        plan.training_intermediates,


rule report_items:
    input:
        rules.plot_figures.output,
        rules.make_pages.output,
        rules.make_gallery.output,
        rules.make_explorer.output,


# What `all` asks for; the rule stands in the Snakefile, since a target of an included file is never the default.
everything = [
    rules.summarise.output,
    plan.judged,
    plan.judged_tables,
    rules.record_configuration.output,
    rules.report_items.input,
    rules.render_report.output,
    plan.intermediates,
    plan.evaluations,
    plan.networks,
    plan.predictions,
]
