//! Making, listing and deleting mycelia.

use mycelium_proto::v1;

use crate::access::Pass;
use crate::error::Error;
use crate::mycelia::Mycelia;
use crate::queries::page::{self, PageOf};

pub(crate) async fn create(
    mycelia: &Mycelia,
    pass: &Pass,
    request: v1::CreateMyceliumRequest,
) -> Result<v1::CreateMyceliumResponse, Error> {
    let created = mycelia.create(pass.to(&request.mycelium)?).await?;
    pass.counts(created.into());
    Ok(v1::CreateMyceliumResponse { created })
}

pub(crate) fn list(
    mycelia: &Mycelia,
    pass: &Pass,
    request: &v1::ListMyceliaRequest,
) -> Result<v1::ListMyceliaResponse, Error> {
    const KIND: char = 'y';
    let page = PageOf { token: request.page_token.clone(), size: request.page_size };
    let after = page::read(&page.token, &[KIND])?.map(|(_, name)| String::from_utf8(name));
    let after = after.transpose().map_err(|_no_name| page::invalid_token())?;
    let limit = page.limit();
    let mut listed = mycelia.list(after.as_deref(), limit + 1, |name| pass.may_see(name));
    let are_more = listed.len() > limit;
    listed.truncate(limit);
    let next_page_token = match listed.last() {
        Some(last) if are_more => page::token(KIND, last.name.as_bytes()),
        Some(_) | None => String::new(),
    };
    let mycelia = listed
        .into_iter()
        .map(|one| v1::Mycelium { name: one.name.as_ref().to_owned(), open: one.is_open })
        .collect();
    Ok(v1::ListMyceliaResponse { mycelia, next_page_token })
}

pub(crate) async fn delete(
    mycelia: &Mycelia,
    pass: &Pass,
    request: v1::DeleteMyceliumRequest,
) -> Result<v1::DeleteMyceliumResponse, Error> {
    let deleted = mycelia.delete(pass.to(&request.mycelium)?, request.force).await?;
    pass.counts(deleted.into());
    Ok(v1::DeleteMyceliumResponse { deleted })
}
