//! Jobs behind those they need, or the way round that makes that impossible.

use std::collections::BTreeSet;

/// The vertices with those they need first, where `edges` holds those of each.
///
/// # Errors
/// A circle, closed: each needs the next, and the last one is the first.
pub fn order(edges: &[Vec<usize>]) -> Result<Vec<usize>, Vec<usize>> {
    let (mut done, mut open) = (vec![false; edges.len()], BTreeSet::new());
    let mut order = Vec::with_capacity(edges.len());
    for start in 0..edges.len() {
        if done[start] {
            continue;
        }
        // Each with the number of its edges that were followed.
        let mut path = vec![(start, 0)];
        open.insert(start);
        while let Some((at, followed)) = path.last_mut() {
            let at = *at;
            match edges[at].get(*followed) {
                Some(&next) => {
                    *followed += 1;
                    if open.contains(&next) {
                        let from = path.iter().position(|(v, _)| *v == next).unwrap_or(0);
                        let mut circle: Vec<usize> = path[from..].iter().map(|(v, _)| *v).collect();
                        circle.push(next);
                        return Err(circle);
                    }
                    if !done[next] {
                        open.insert(next);
                        path.push((next, 0));
                    }
                }
                None => {
                    path.pop();
                    open.remove(&at);
                    done[at] = true;
                    order.push(at);
                }
            }
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::order;

    #[test]
    fn upstream_jobs_come_first_and_a_circle_is_shown() {
        assert_eq!(order(&[vec![1, 2], vec![2], vec![]]).unwrap(), [2, 1, 0]);
        assert_eq!(order(&[vec![], vec![2], vec![3], vec![1]]).unwrap_err(), [1, 2, 3, 1]);
        assert_eq!(order(&[vec![0]]).unwrap_err(), [0, 0]);
    }
}
