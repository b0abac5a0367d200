rule train_all:
    input:
        plan.training_half,


rule report_items:
    input:
        rules.plot_figures.output,
        rules.make_pages.output,
        rules.make_gallery.output,
        rules.make_explorer.output,


rule all:
    default_target: True
    input:
        rules.summarise.output,
        rules.record_configuration.output,
        rules.report_items.input,
        rules.render_report.output,
