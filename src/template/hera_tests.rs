//! hera's golden case G17, and what its scripts may meet here.

use std::sync::Arc;

use horai_core::ids::{AttemptKey, Name, RunId};
use horai_core::time::UtcMillis;
use horai_core::timing::zone::Zone;

use std::collections::BTreeMap;

use super::{Context, Fault, Names, Secret, Syntax, TemplateError, check, render};

/// Of the version 202403150300000001.
fn context(params: &[(&str, &str)], vars: &[(&str, &str)]) -> Context {
    let zone = Zone::parse("Asia/Shanghai").unwrap();
    let attempt = AttemptKey { run: RunId(17), shard: 0, number: 2 };
    let nominal = UtcMillis(1_710_442_800_000);
    let mut context = Context::new(Name::new("load").unwrap(), attempt, nominal, zone);
    let owned = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    context.params = owned(params);
    context.vars = owned(vars);
    context
}

fn rendered(text: &str, context: Context) -> Result<String, TemplateError> {
    render(text, Syntax::Hera, &Arc::new(context)).map(|rendered| rendered.text.into_owned())
}

#[test]
fn times_of_the_golden_case() {
    for (text, wanted) in [
        ("${zdt.addDay(-1).format(\"yyyy-MM-dd\")}", "2024-03-14"),
        ("${yesterday}", "20240314"),
        ("${zdt.add(2,-1).format(\"yyyy-MM-dd HH:mm:ss\")}", "2024-02-15 03:00:00"),
        ("${zdt.add(1, 1).add(3,1).add(11,-4).format('yyyyMMddHH')}", "2025032123"),
        ("${zdt.add(5,1).add(6,1).add(7,1).format(\"MMdd\")}", "0318"),
        ("${zdt.add(12,1).add(13,2).add(14,3).format(\"HH:mm:ss.SSS\")}", "03:01:02.003"),
        ("${zdt.set(5,1).addDay(-1).format(\"yyyy-MM-dd\")}", "2024-02-29"),
        ("${zdt.set(2,0).set(6,2).set(1,2023).format(\"yyyy-MM-dd\")}", "2023-01-02"),
        ("${zdt.set(11,0).set(12,5).set(13,6).set(14,7).format(\"HH:mm:ss.SSS\")}", "00:05:06.007"),
        ("${zdt.add(11,12).set(10,1).format(\"HH\")}", "13"),
        ("${zdt.get(1)}/${zdt.get(2)}/${zdt.get(5)}/${zdt.get(7)}", "2024/2/15/6"),
        ("${zdt.getTime()} ${zdt.getMillis()}", "1710442800 1710442800000"),
        ("a ${ zdt } ${zdt} ${zdtx} ${q}", "a ${ zdt } ${zdt} ${zdtx} ${q}"),
    ] {
        check(text, Syntax::Hera, &Names::default()).unwrap();
        assert_eq!(rendered(text, context(&[], &[])).unwrap(), wanted, "{text}");
    }
}

#[test]
fn names_of_the_golden_case() {
    for (vars, text, wanted) in [
        (&[("a", "${b}"), ("b", "x")][..], "${a}", "x"),
        (&[("EU.name", "y")], "${name}", "y"),
        (&[("name", "x"), ("EU.name", "y")], "${name}", "x"),
        (&[("EU.name", "y")], "${EU.name}", "y"),
        (&[("US.name", "y")], "${name}", "${name}"),
        (&[], "${q} $q $${q} ${", "${q} $q $${q} ${"),
        // The shell's, with one of ours in it.
        (&[("b", "x")], "${a:-${b}} ${#list[@]} ${b}", "${a:-x} ${#list[@]} x"),
        (&[("d", "p_${zdt.format(\"yyyyMMdd\")}_${yesterday}")], "${d}", "p_20240315_20240314"),
        (&[("yesterday", "mine")], "${yesterday}", "mine"),
    ] {
        let mut context = context(&[], vars);
        context.area = Some("EU".to_owned());
        assert_eq!(rendered(text, context).unwrap(), wanted, "{vars:?} {text}");
    }
    // What is nearer holds, whichever of the two names the area.
    for (params, vars, wanted) in [
        (&[("EU.name", "run")][..], &[("name", "group")][..], "run"),
        (&[("name", "run")], &[("EU.name", "group")], "run"),
        (&[("US.name", "run")], &[("EU.name", "group")], "group"),
    ] {
        let mut given = context(params, vars);
        given.area = Some("EU".to_owned());
        assert_eq!(rendered("${name}", given).unwrap(), wanted, "{params:?} {vars:?}");
    }
    let given = context(&[("a", "run ${b}")], &[("a", "job"), ("b", "x")]);
    assert_eq!(rendered("${a}", given).unwrap(), "run x");
}

#[test]
fn circles_are_named() {
    for (vars, wanted) in [
        (&[("a", "${b}"), ("b", "1${a}")][..], "a -> b -> a"),
        (&[("a", "${a}")], "a -> a"),
        (&[("a", "${b}"), ("b", "${c}"), ("c", "${b}")], "b -> c -> b"),
    ] {
        let error = rendered("x\n ${a}", context(&[], vars)).unwrap_err();
        assert_eq!((error.fault.clone(), error.line, error.column), (Fault::Loop, 2, 2));
        assert!(error.message.ends_with(wanted), "{error}");
    }
}

#[test]
fn what_is_wrong_in_a_chain_has_a_place() {
    for (text, column, message, remedy) in [
        ("${zdt.addday(1).format(\"y\")}", 7, "zdt has no `addday`", "did you mean addDay?"),
        ("${zdt.getToday()}", 7, "zdt has no `getToday`", "write format(\"yyyy-MM-dd\")"),
        ("é ${zdt.addDay(-1)}", 19, "the time is not written", "write it as"),
        ("${zdt.add(99,1).format(\"y\")}", 7, "there is no field 99", "write 1 year"),
        ("${zdt.addDay(x).format(\"y\")}", 14, "here a whole number", "write it as"),
        ("${zdt.addDay(99999999999999999999).get(1)}", 14, "here a whole number", "write it as"),
        ("${zdt.addDay(1,2).format(\"y\")}", 7, "`addDay` takes something else", "addDay(-1)"),
        ("${zdt.addDay(1,2,3)}", 17, "here `)` must stand", "write it as"),
        ("${zdt.format(\"y\").addDay(1)}", 18, "here `}` must stand", "write it as"),
        ("${zdt.format(\"YYYY\")}", 7, "YYYY is the year of the week", "write yyyy"),
        ("${zdt.format(\"y)}", 14, "a quote is not closed", "write it as"),
        ("${zdt.", 7, "zdt has no ``", "write addDay"),
        ("${zdt.format(\"y\")", 18, "here `}` must stand", "write it as"),
    ] {
        let found = check(text, Syntax::Hera, &Names::default()).unwrap_err();
        assert_eq!((found.line, found.column), (1, column), "{text} {found}");
        assert!(found.message.starts_with(message), "{text}: {found}");
        assert!(found.remedy.contains(remedy), "{text}: {found}");
        assert_eq!(rendered(text, context(&[], &[])).unwrap_err(), found, "{text}");
    }
    let far = "${zdt.addDay(999999999999).format(\"y\")}";
    check(far, Syntax::Hera, &Names::default()).unwrap();
    assert_eq!(rendered(far, context(&[], &[])).unwrap_err().fault, Fault::BadValue);
    let inside = rendered("${a}", context(&[], &[("a", "\n${zdt.x()}")])).unwrap_err();
    assert_eq!((inside.line, inside.column), (1, 1));
    assert!(inside.message.starts_with("in the variable `a`, line 2, column 7: zdt has no"));
}

#[test]
fn secrets_are_for_the_job_and_told_to_the_caller() {
    let mut given = context(&[("p", "${secret.key}")], &[("v", "${secret.key}")]);
    given.secrets.insert("key".to_owned(), Secret::new("hunter2"));
    given.secrets.insert("other".to_owned(), Secret::new("x"));
    let given = Arc::new(given);
    let done = render("${v} ${secret.none}", Syntax::Hera, &given).unwrap();
    assert_eq!(done.text, "hunter2 ${secret.none}");
    assert_eq!(done.secrets, [("key".to_owned(), Secret::new("hunter2"))]);
    // Whoever may ask for a run may not read secrets by it.
    let done = render("${p}", Syntax::Hera, &given).unwrap();
    assert_eq!((done.text.as_ref(), done.secrets.len()), ("${secret.key}", 0));
    assert!(!format!("{given:?} {done:?} {:?}", given.secrets).contains("hunter2"));
}

#[test]
fn a_secret_that_is_not_there_is_refused_with_its_place() {
    let known = |secrets: &[&str]| {
        let secrets = secrets.iter().map(|secret| (*secret).to_owned()).collect();
        Names { secrets: Some(secrets), ..Names::default() }
    };
    let text = "echo ${a}\n${secret.db} ${secret.token}";
    assert_eq!(check(text, Syntax::Hera, &known(&["db", "token"])), Ok(()));
    assert_eq!(check(text, Syntax::Hera, &Names::default()), Ok(()));
    let error = check(text, Syntax::Hera, &known(&["db", "tokens"])).unwrap_err();
    assert_eq!((error.line, error.column), (2, 14));
    assert_eq!(error.message, "there is no secret `token`");
    assert_eq!(error.remedy, "did you mean tokens?");
}

#[test]
fn nothing_grows_or_turns_without_end() {
    let mut doubling: Vec<(String, String)> =
        (1..30).map(|n| (format!("v{n}"), format!("${{v{0}}}${{v{0}}}", n - 1))).collect();
    for (last, wanted) in [(&String::new(), Fault::TooLong), (&"x".repeat(100), Fault::TooLarge)] {
        doubling.push(("v0".to_owned(), last.clone()));
        let pairs: Vec<(&str, &str)> =
            doubling.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let error = rendered("${v29}", context(&[], &pairs)).unwrap_err();
        assert_eq!(error.fault, wanted, "{error}");
    }
    let deep: Vec<(String, String)> =
        (1..99).map(|n| (format!("v{n}"), format!("${{v{}}}", n - 1))).collect();
    let pairs: Vec<(&str, &str)> =
        deep.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let error = rendered("${v98}", context(&[], &pairs)).unwrap_err();
    assert!(error.message.contains("too deep"), "{error}");
    let shell = "${".repeat(90_000);
    assert_eq!(rendered(&shell, context(&[], &[])).unwrap(), shell);
}

#[test]
fn parameters_that_lead_back_to_themselves_are_found() {
    let circle = |pairs: &[(&str, &str)]| {
        let params: BTreeMap<String, String> =
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let found = crate::template::circle_of(&params, Syntax::Hera);
        found.map(|names| names.join(" ")).unwrap_or_default()
    };
    assert_eq!(circle(&[("a", "${b}"), ("b", "x${a}")]), "a b a");
    assert_eq!(circle(&[("a", "${a}")]), "a a");
    assert_eq!(circle(&[("z", "${b} ${a}"), ("a", "${b}"), ("b", "${c}"), ("c", "${b}")]), "b c b");
    assert_eq!(circle(&[("a", "${b} ${b}"), ("b", "${c:-${d}}"), ("d", "$a")]), "");
    // Where it is may break it.
    assert_eq!(circle(&[("a", "${b}"), ("b", "${a}"), ("EU.b", "1")]), "");
    let params = BTreeMap::from([("a".to_owned(), "${a}".to_owned())]);
    assert_eq!(crate::template::circle_of(&params, Syntax::Jinja), None);
}
