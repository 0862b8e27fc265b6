//! Jinja texts: what they give, what is refused, and where.

use std::collections::BTreeMap;
use std::sync::Arc;

use horai_core::ids::{AttemptKey, Name, RunId};
use horai_core::time::UtcMillis;
use horai_core::timing::zone::Zone;

use super::{
    Context, Fault, MAX_SIZE, Names, Secret, Syntax, TemplateError, check, render, secrets_of,
};

fn owned(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// 2024-03-31T12:34:56 in Berlin, the day the clocks went forward.
fn context() -> Context {
    let zone = Zone::parse("Europe/Berlin").unwrap();
    let attempt = AttemptKey { run: RunId(17), shard: 0, number: 2 };
    let nominal = UtcMillis(1_711_881_296_000);
    let mut context = Context::new(Name::new("load").unwrap(), attempt, nominal, zone);
    context.due = UtcMillis(nominal.0 + 1500);
    context.params = owned(&[("day", "seven"), ("tpl", "{{ secrets.key }}")]);
    context.vars = owned(&[("table", "t_{{ nominal.format('%Y') }}"), ("EU.host", "eu-1")]);
    context.area = Some("EU".to_owned());
    context.outputs = [("up-1".to_owned(), owned(&[("rows", "12")]))].into();
    context.outputs.insert("up".to_owned(), owned(&[("file", "a.csv")]));
    context.state = owned(&[("cursor", "99")]);
    context.secrets = [("key".to_owned(), Secret::new("hunter2"))].into();
    context
}

fn rendered(text: &str) -> Result<String, TemplateError> {
    render(text, Syntax::Jinja, &Arc::new(context())).map(|done| done.text.into_owned())
}

fn known() -> Names {
    let set = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    Names {
        params: set(&["day", "tpl", "table", "host", "EU.host"]),
        vars: set(&["table", "host", "EU.host"]),
        upstream: set(&["up", "up-1"]),
        secrets: set(&["key"]),
        state: Some(true),
    }
}

#[test]
fn a_state_that_a_job_does_not_keep_is_not_asked_for() {
    let text = "echo {{ state.N | default(0) }}";
    assert_eq!(check(text, Syntax::Jinja, &known()), Ok(()));
    assert_eq!(check(text, Syntax::Jinja, &Names::default()), Ok(()));
    let none = Names { state: Some(false), ..known() };
    let error = check(text, Syntax::Jinja, &none).unwrap_err();
    assert_eq!((error.line, error.column), (1, 9));
    assert!(error.remedy.contains("keep_state: true"), "{error:?}");
}

#[test]
fn values_are_put_in_place() {
    for (text, wanted) in [
        ("{{ nominal }}", "2024-03-31T12:34:56+02:00"),
        ("{{ due.iso() }}", "2024-03-31T12:34:57.500+02:00"),
        ("{{ nominal.add(days=-1).start_of('day') }}", "2024-03-30T00:00:00+01:00"),
        ("{{ nominal.add_months(-1).format('yyyy-MM-dd') }}", "2024-02-29"),
        ("{{ nominal.add(days=-1).add(hours=24).format(\"HH:mm\") }}", "13:34"),
        ("{{ nominal.in_zone('Asia/Shanghai').format('%H:%M %Z') }}", "18:34 CST"),
        ("{{ nominal.unix() }} {{ due.unix_ms() }}", "1711881296 1711881297500"),
        ("{{ nominal.year }}-{{ nominal.month }} {{ nominal.weekday }}", "2024-3 7"),
        ("{{ 'late' if due > nominal else 'sharp' }} {{ nominal == nominal }}", "late True"),
        ("{{ job }} {{ action }} {{ run }}", "load load@20240331T103456Z r-17"),
        ("{{ attempt }} {{ attempt.number + 1 }}", "r-17.2 3"),
        ("{{ batch }} {{ [batch]|batch(1)|length }}", "load@20240331T103456Z 1"),
        // What groups give is a parameter, too; as a variable it is a template.
        ("{{ params.host }} {{ params.table }}", "eu-1 t_{{ nominal.format('%Y') }}"),
        ("{{ vars.host }} {{ vars.table }} {{ params|length }}", "eu-1 t_2024 4"),
        ("{{ params.day }} {{ params['day']|upper }} {{ state.cursor }}", "seven SEVEN 99"),
        ("{{ outputs.up.file }} {{ outputs['up-1'].rows|int + 1 }}", "a.csv 13"),
        ("{{ vars.table }} {{ vars.host }} {{ vars['EU.host'] }}", "t_2024 eu-1 eu-1"),
        (
            "{% for key in vars %}{{ key }}={{ vars[key] }};{% endfor %}",
            "EU.host=eu-1;host=eu-1;table=t_2024;",
        ),
        ("{% set days = [1, 2] %}{% for d in days %}{{ loop.index }}{% endfor %}", "12"),
        ("{% for job in ['a'] %}{{ job }}{% endfor %}", "a"),
        ("{{ params.none|default('x') }}{% if state.y is not defined %}y{% endif %}", "xy"),
        // What belongs to shells and other programs.
        ("${#list[@]} {# no comment #} {{ 1 }}\r\n", "${#list[@]} {# no comment #} 1\r\n"),
        ("a{%# gone {{ nominall }} #%}b\n", "ab\n"),
        ("{% raw %}docker ps -f {{.ID}}{% endraw %}\n", "docker ps -f {{.ID}}\n"),
        ("{{ '<' }}&{{ params.day ~ '\"' }}", "<&seven\""),
        ("{{ {'a': {'b': 1}}|tojson }}", "{\"a\": {\"b\": 1}}"),
        // Values of params are no templates.
        ("{{ params.tpl }}", "{{ secrets.key }}"),
    ] {
        check(text, Syntax::Jinja, &known()).unwrap();
        assert_eq!(rendered(text).unwrap(), wanted, "{text}");
    }
}

#[test]
fn texts_without_tags_are_not_copied() {
    for (text, syntax) in [
        ("echo ${a} {#} {\n", Syntax::Jinja),
        ("echo $a {{ b }}", Syntax::Hera),
        ("{{.ID}} ${b}", Syntax::Plain),
    ] {
        let context = Arc::new(context());
        check(text, syntax, &Names::default()).unwrap();
        let done = render(text, syntax, &context).unwrap();
        assert!(matches!(done.text, std::borrow::Cow::Borrowed(same) if same == text));
    }
}

#[test]
fn a_job_with_a_dash_is_told_how_it_is_written() {
    let upstream = |jobs: &[&str]| {
        let jobs = jobs.iter().map(|job| (*job).to_owned()).collect();
        Names { upstream: Some(jobs), ..Names::default() }
    };
    for (text, wanted) in [
        ("{{ outputs.c-ok.K }}", "write outputs[\"c-ok\"]"),
        ("{{ 1 + outputs.a-b-c.K|int }}", "write outputs[\"a-b-c\"]"),
    ] {
        let error = check(text, Syntax::Jinja, &upstream(&["c-ok", "a-b-c"])).unwrap_err();
        assert_eq!(error.remedy, wanted, "{error}");
    }
    check("{{ outputs['c-ok'].K }}", Syntax::Jinja, &upstream(&["c-ok"])).unwrap();
    let error = check("{{ outputs.c-no.K }}", Syntax::Jinja, &upstream(&["c-ok"])).unwrap_err();
    assert!(error.message.contains("no upstream job `c`"), "{error}");
}

#[test]
fn checks_find_faults_with_their_places() {
    for (text, place, message, remedy) in [
        ("docker ps {{.ID}}", (1, 13), "this is no template: unexpected `.`", "{% raw %}"),
        ("\n{{ nominall }}", (2, 4), "`nominall` is not known", "did you mean nominal?"),
        ("é{{ now() }}", (1, 5), "`now` is not known", "write nominal, due, job"),
        ("{{ loop.index }}", (1, 4), "`loop` is not known", "write nominal"),
        ("{{ params.dat }}", (1, 4), "there is no parameter `dat`", "did you mean day?"),
        ("{{ params['zzzz'] }}", (1, 4), "there is no parameter `zzzz`", "params.zzzz|default"),
        ("{{ vars.tabel }}", (1, 4), "there is no variable `tabel`", "did you mean table?"),
        ("{{ outputs.dwon.x }}", (1, 4), "there is no upstream job `dwon`", "depends_on"),
        ("{{ outputs.up - rows }}", (1, 17), "`rows` is not known", "outputs[\"the-job\"]"),
        ("{{ secrets.kee }}", (1, 4), "there is no secret `kee`", "did you mean key?"),
        // Nothing else may be said of one that is not there.
        ("{{ secrets.ke_y|default('') }}", (1, 4), "there is no secret `ke_y`", "mean key?"),
        ("{{ secrets['db-x'] }}", (1, 4), "there is no secret `db-x`", "secret set db-x"),
        ("{% set secrets = secrets %}", (1, 8), "secrets cannot be used as a whole", "secrets.x"),
        ("{{ secrets[params.day] }}", (1, 4), "the name of a secret cannot be", "secrets.x"),
        ("{{ secrets }}", (1, 4), "secrets cannot be used as a whole", "secrets.x"),
        ("{{ job.name }}", (1, 4), "`job` is a text and has no `name`", "write job"),
        ("{{ attempt.nr }}", (1, 4), "an attempt has `number`", "attempt.number"),
        ("{{ nominal.fromat('%Y') }}", (1, 12), "a time has no `fromat`", "mean format?"),
        ("{{ nominal.zone }}", (1, 12), "a time has no `zone`", "in_zone"),
        ("{{ nominal.iso }}", (1, 12), "`iso` is called", "write iso(…)"),
        ("{{ nominal.add(day=1) }}", (1, 16), "`add` knows no `day`", "did you mean days?"),
        ("{{ nominal.add(1) }}", (1, 16), "`add` takes each number", "days=1"),
        ("{{ nominal.add(days=[1, 2]|first, x=1) }}", (1, 35), "`add` knows no `x`", "days=1"),
        ("{{ due.add_days() }}", (1, 17), "`add_days` is told nothing", "add_days(1)"),
        ("{{ due.iso(1) }}", (1, 12), "`iso` takes nothing", "write iso()"),
        ("{{ due.start_of('dya') }}", (1, 17), "nothing begins with each `dya`", "mean day?"),
        ("{{ due.in_zone('Berlin') }}", (1, 16), "\"Berlin\" is not an IANA", "Europe/Berlin"),
        ("{{ due.add(days=1).format('YYYY') }}", (1, 27), "YYYY is the year of", "yyyy"),
        ("{{ due.format('%!') }}", (1, 15), "`%!` is not a pattern", "%Y-%m-%d"),
        ("{{ params.day|uper }}", (1, 15), "there is no filter `uper`", "did you mean upper?"),
        ("{% filter uper %}{% endfilter %}", (1, 11), "there is no filter `uper`", "upper?"),
        ("{{ 1 is not ood }}", (1, 13), "there is no test `ood`", "did you mean odd?"),
        ("{% include 'x' %}", (1, 4), "this is no template: unknown statement", "{% raw %}"),
        ("{% if %}", (1, 7), "this is no template: unexpected end", "{% raw %}"),
        ("{{ 'abc", (1, 8), "this is no template: unexpected end", "{% raw %}"),
        ("{% for x in [] recursive %}{% endfor %}", (1, 16), "loops that call", "one loop"),
    ] {
        let Err(error) = check(text, Syntax::Jinja, &known()) else { panic!("{text}") };
        assert_eq!((error.line, error.column), place, "{text}: {error}");
        assert!(error.message.starts_with(message), "{text}: {error}");
        assert!(error.remedy.contains(remedy), "{text}: {error}");
    }
    // Nothing is said of names that nothing is known of.
    let text = "{{ params.x }}{{ vars.y }}{{ outputs.z.a }}{{ secrets.q }}{{ state.w }}";
    check(text, Syntax::Jinja, &Names::default()).unwrap();
}

#[test]
fn rendering_names_what_has_no_value() {
    for (text, place, fault, name) in [
        ("{{ params.x }}", (1, 4), "Undefined", "params.x"),
        ("\n é{{ outputs['up-9'].rows }}", (2, 6), "Undefined", "`outputs['up-9'].rows`"),
        ("{{ state.x|upper }}", (1, 12), "Undefined", ""),
        ("{{ vars.none }}", (1, 4), "Undefined", "vars.none"),
        ("{{ params.day|int }}", (1, 15), "BadValue", "int"),
        ("{{ nominal.add_years(99999) }}", (1, 4), "BadValue", "nominal.add_years(99999)"),
        ("{{ nominal.format(params.day) }}", (1, 4), "BadValue", "nominal.format"),
        ("{{ params.day.zfill(2) }}", (1, 4), "Syntax", "zfill"),
        ("{{ nominal.add(days=params.day) }}", (1, 4), "BadValue", "nominal.add"),
    ] {
        let error = rendered(text).unwrap_err();
        assert!(format!("{:?}", error.fault).starts_with(fault), "{text}: {error}");
        assert!(error.message.contains(name), "{text}: {error}");
        assert_eq!((error.line, error.column), place, "{text}: {error}");
        assert!(!error.remedy.is_empty());
    }
}

#[test]
fn variables_are_templates_without_circles() {
    let with = |vars: &[(&str, &str)], text: &str| {
        let mut context = context();
        context.vars = owned(vars);
        render(text, Syntax::Jinja, &Arc::new(context)).map(|done| done.text.into_owned())
    };
    let chain = [("a", "1{{ vars.b }}"), ("b", "2{{ vars['c'] }}"), ("c", "{{ job }}")];
    assert_eq!(with(&chain, "{{ vars.a }}{{ vars.a }}").unwrap(), "12load12load");
    let error =
        with(&[("a", "{{ vars.b }}"), ("b", "\n{{ vars.a }}")], " {{ vars.a }}").unwrap_err();
    assert_eq!((error.fault.clone(), error.line, error.column), (Fault::Loop, 1, 5));
    assert!(error.message.ends_with(": a -> b -> a"), "{error}");
    // Only what is named is rendered.
    let broken = [("a", "\n {{ params.x }}"), ("b", "fine")];
    assert_eq!(with(&broken, "{{ vars.b }}").unwrap(), "fine");
    for text in ["é{{ vars.a }}", "é{{ vars }}"] {
        let error = with(&broken, text).unwrap_err();
        assert_eq!((error.line, error.column), (1, 5), "{error}");
        let message = "in the variable `a`, line 2, column 5: `params.x` has no value";
        assert_eq!(error.message, message);
    }
}

#[test]
fn secrets_are_told_to_the_caller_and_to_nobody_else() {
    let context = Arc::new(context());
    let done = render("{{ 'x' if secrets.key else '' }}", Syntax::Jinja, &context).unwrap();
    assert_eq!(done.text, "x");
    assert_eq!(done.secrets, [("key".to_owned(), Secret::new("hunter2"))]);
    let done = render("{{ secrets.key }}", Syntax::Jinja, &context).unwrap();
    assert_eq!(done.text, "hunter2");
    assert!(!format!("{done:?} {context:?}").contains("hunter2"));
    assert!(render("{{ job }}", Syntax::Jinja, &context).unwrap().secrets.is_empty());
    for text in [
        "{{ secrets.key|int }}",
        "{{ secrets.key + 1 }}",
        "{{ nominal.format('%!' ~ secrets.key) }}",
        "{{ nominal.in_zone(secrets.key) }}",
        "{{ nominal.start_of(secrets.key) }}",
        "{{ params[secrets.key] }}",
        "{{ secrets.key.x.y }}",
        "{{ secrets.key|attr('x')|upper }}",
        "{{ 1|round(secrets.key) }}",
        "{{ range(secrets.key) }}",
        "{{ dict(a=1)[secrets.key]|list }}",
        "{{ [1]|map(secrets.key)|list }}",
        "{{ [1]|select(secrets.key)|list }}",
        "{{ '%d'|format(secrets.key) }}",
    ] {
        let error = render(text, Syntax::Jinja, &context).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{text}: {error:?}");
    }
    assert_eq!(rendered("{{ secrets }}").unwrap(), "(secrets)");
    assert!(rendered("{% for s in secrets %}{{ s }}{% endfor %}").is_err());
    assert!(rendered("{{ debug() }}").is_err());
}

#[test]
fn the_secrets_that_a_text_reads_are_known_without_values() {
    let named =
        |text, syntax| -> Vec<&str> { secrets_of(text, syntax).unwrap().into_iter().collect() };
    let text = "{{ secrets.a ~ secrets['b-c'] }} {% if secrets.d %}{{ x.secrets.e }}{% endif %} \
                {%# {{ secrets.f }} #%} {% raw %}{{ secrets.g }}{% endraw %} secrets.h ${secret.i}";
    assert_eq!(named(text, Syntax::Jinja), ["a", "b-c", "d"]);
    let text = "${secret.a} ${x:-${secret.b-c}} ${secret.} ${secretx} ${secret.d secrets.e";
    assert_eq!(named(text, Syntax::Hera), ["", "a", "b-c"]);
    assert_eq!(named("{{ secrets.a }}", Syntax::Plain), [""; 0]);
    assert!(secrets_of("{{ secrets.a }}{{ (((((((((((((1", Syntax::Jinja).is_err());
}

#[test]
fn sizes_steps_and_depths_are_bounded() {
    let nested = |n: usize, open: &str, inner: &str, close: &str| {
        [open.repeat(n), inner.to_owned(), close.repeat(n)].concat()
    };
    let tag = |words: String| format!("{{{{ {words} }}}}");
    for (text, fault) in [
        ("{{ 'x' }}".to_owned() + &"y".repeat(MAX_SIZE), Fault::TooLarge),
        ("{% for i in range(999) %}{{ 'x' * 9999 }}{% endfor %}".to_owned(), Fault::TooLarge),
        (
            "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}"
                .to_owned(),
            Fault::TooLong,
        ),
        ("{{ 'x' * 99999999999 }}".to_owned(), Fault::TooLong),
        (tag(nested(9999, "(", "1", ")")), Fault::TooLarge),
        (tag(nested(9999, "not ", "1", "")), Fault::TooLarge),
        (tag(nested(9999, "1 if 0 else ", "1", "")), Fault::TooLarge),
        (tag(nested(9999, "", "job", "|upper")), Fault::TooLarge),
        (nested(9999, "{% if 1 %}", "x", "{% endif %}"), Fault::TooLarge),
        (nested(1, "{% if 0 %}", &"{% elif 0 %}".repeat(9999), "{% endif %}"), Fault::TooLarge),
        ("{% set x = [1] %}".to_owned() + &"{% set x = [x] %}".repeat(9999), Fault::TooLarge),
    ] {
        let error = rendered(&text).unwrap_err();
        assert_eq!(error.fault, fault, "{:.40}: {error}", text);
    }
    // Small words for large things.
    for words in [
        "'%999999999d'|format(1)",
        "'%.999999999f'|format(1.5)",
        "'a\nb'|indent(999999999)",
        "[1]|batch(999999999, 'x')|list",
        "[1]|slice(999999999)|list",
        "range(0, 9223372036854775807)",
        "2 ** 99999999999",
        "'x' * 9223372036854775807",
        "[1] * 999999999",
        "nominal.format('y' * 100000)",
    ] {
        let error = rendered(&tag(words.to_owned())).unwrap_err();
        assert!(matches!(error.fault, Fault::TooLong | Fault::BadValue), "{words}: {error}");
    }
    // The largest that is allowed fits the smallest stack of our threads.
    for text in [
        tag(nested(12, "(", "1", ")")),
        tag(nested(255, "not ", "1", "")),
        tag(nested(127, "", "job", "|upper")),
        nested(16, "{% for x in [1] %}", &tag(nested(12, "[", "1", "]")), "{% endfor %}"),
        nested(1, "{% if 0 %}", &"{% elif 0 %}".repeat(64), "{% endif %}"),
        "{% set x = [1] %}".to_owned() + &"{% set x = [x] %}".repeat(80) + "{{ x }}{{ x == x }}",
    ] {
        let small = std::thread::Builder::new().stack_size(1 << 20);
        let done = small.spawn(move || (check(&text, Syntax::Jinja, &known()), rendered(&text)));
        let (checked, rendered) = done.unwrap().join().unwrap();
        assert_eq!((checked, rendered.map(|_| ())), (Ok(()), Ok(())));
    }
    let many = (0..40).map(|n| (format!("v{n}"), "x".repeat(MAX_SIZE / 8)));
    let mut context = context();
    context.vars = many.collect();
    let error = render("{{ vars|length }}", Syntax::Jinja, &Arc::new(context)).unwrap_err();
    assert_eq!(error.fault, Fault::TooLarge);
}

#[test]
fn listed_filters_and_tests_are_those_of_the_engine() {
    for name in super::names::FILTERS.split(' ') {
        assert_eq!(rendered(&format!("{{{{ '{name}' is filter }}}}")).unwrap(), "True", "{name}");
    }
    for name in super::names::TESTS.split(' ') {
        assert_eq!(rendered(&format!("{{{{ '{name}' is test }}}}")).unwrap(), "True", "{name}");
    }
}
