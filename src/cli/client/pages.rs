//! Lists that come in pages, put together again.

use super::ApiError;
use crate::api::dto::Page;

/// Entries asked for at once.
const PAGE: usize = 500;

/// All entries of a list; `page` asks for those behind what the page before it named.
///
/// # Errors
/// Those of `page`.
pub async fn all<T>(
    mut page: impl AsyncFnMut(Option<&str>) -> Result<Page<T>, ApiError>,
) -> Result<Vec<T>, ApiError> {
    first(usize::MAX, async |_, next| page(next).await).await
}

/// The first `limit` entries of a list; `page` asks for so many at the most behind what the
/// page before it named.
///
/// # Errors
/// Those of `page`.
pub async fn first<T>(
    limit: usize,
    mut page: impl AsyncFnMut(u32, Option<&str>) -> Result<Page<T>, ApiError>,
) -> Result<Vec<T>, ApiError> {
    let (mut found, mut next) = (Vec::new(), None::<String>);
    while found.len() < limit {
        let size = u32::try_from((limit - found.len()).min(PAGE)).unwrap_or(u32::MAX);
        let part = page(size, next.as_deref()).await?;
        found.extend(part.items);
        next = part.next;
        if next.is_none() {
            break;
        }
    }
    found.truncate(limit);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers up to 1,200 behind another one, at most `size` of them.
    fn numbers(size: u32, next: Option<&str>) -> Result<Page<u32>, ApiError> {
        let begin: u32 = next.map_or(0, |next| next.parse().unwrap());
        let end = (begin + size).min(1_200);
        let items = (begin..end).collect();
        Ok(Page { items, next: (end < 1_200).then(|| end.to_string()) })
    }

    #[tokio::test]
    async fn pages_are_put_together_up_to_the_limit() {
        for (limit, sizes) in
            [(0, &[][..]), (1, &[1]), (500, &[500]), (700, &[500, 200]), (9_999, &[500, 500, 500])]
        {
            let mut asked = Vec::new();
            let found = first(limit, async |size, next| {
                asked.push(size);
                numbers(size, next)
            });
            let found = found.await.unwrap();
            assert_eq!(found, (0..1_200).take(limit).collect::<Vec<_>>());
            assert_eq!(asked, sizes, "{limit}");
        }
        let found = all(async |next| numbers(7, next)).await.unwrap();
        assert_eq!(found, (0..1_200).collect::<Vec<_>>());
        // Whoever hands out more than was asked for is not believed.
        let found = first(3, async |_, next| numbers(7, next)).await.unwrap();
        assert_eq!(found, [0, 1, 2]);
    }
}
