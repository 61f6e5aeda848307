//! Tools that know nothing of the contract ask the broker for it, in either version of reflection.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail, ensure};
use integration_tests::{must, wire};
use mycelium_server::Broker;
use prost::Message as _;
use prost_types::FileDescriptorProto;

/// Both versions are the same but for their types.
macro_rules! reflected {
    ($version:ident, $url:expr) => {{
        use tonic_reflection::pb::$version::ServerReflectionRequest;
        use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
        use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
        use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;

        let mut client = ServerReflectionClient::new(wire::channel($url).await?);
        let mut ask = async |request| {
            let request = ServerReflectionRequest { host: String::new(), message_request: Some(request) };
            let mut answers =
                client.server_reflection_info(futures::stream::iter([request])).await?.into_inner();
            let answer = must("an answer", answers.message()).await??.context("no answer")?;
            answer.message_response.context("the answer is empty")
        };
        let services = match ask(MessageRequest::ListServices(String::new())).await? {
            MessageResponse::ListServicesResponse(listed) => {
                listed.service.into_iter().map(|service| service.name).collect::<BTreeSet<_>>()
            }
            other => bail!("{other:?}"),
        };
        let mut files = Vec::new();
        for request in [
            MessageRequest::FileByFilename("google/rpc/error_details.proto".to_owned()),
            MessageRequest::FileContainingSymbol("google.rpc.ErrorInfo".to_owned()),
            MessageRequest::FileContainingSymbol("mycelium.v1.ElfService".to_owned()),
        ] {
            match ask(request).await? {
                MessageResponse::FileDescriptorResponse(found) => {
                    let bytes = found.file_descriptor_proto.first().context("no file")?;
                    files.push(FileDescriptorProto::decode(bytes.as_slice())?);
                }
                other => bail!("{other:?}"),
            }
        }
        let unknown = ask(MessageRequest::FileByFilename("nothing.proto".to_owned())).await;
        ensure!(!matches!(unknown, Ok(MessageResponse::FileDescriptorResponse(_))), "{unknown:?}");
        (services, files)
    }};
}

fn check(services: &BTreeSet<String>, files: &[FileDescriptorProto]) -> anyhow::Result<()> {
    for service in [
        "mycelium.v1.MyceliumService",
        "mycelium.v1.ElfService",
        "mycelium.v1.BlobService",
        "grpc.health.v1.Health",
    ] {
        ensure!(services.contains(service), "{service} is not among {services:?}");
    }
    let [by_name, by_symbol, elf_service] = files else { bail!("{} files", files.len()) };
    for file in [by_name, by_symbol] {
        ensure!(file.name() == "google/rpc/error_details.proto", "{}", file.name());
        let messages: Vec<_> = file.message_type.iter().map(prost_types::DescriptorProto::name).collect();
        for message in ["ErrorInfo", "BadRequest", "RetryInfo"] {
            ensure!(messages.contains(&message), "{message} is not among {messages:?}");
        }
    }
    ensure!(elf_service.name() == "mycelium/v1/elf_service.proto", "{}", elf_service.name());
    Ok(())
}

#[tokio::test]
async fn services_and_the_details_of_errors_are_found_with_both_versions_of_reflection() -> anyhow::Result<()>
{
    let broker = Broker::in_memory()?.bind("127.0.0.1:0").await?;
    let (services, files) = reflected!(v1alpha, &broker.url());
    check(&services, &files)?;
    ensure!(services.contains("grpc.reflection.v1alpha.ServerReflection"), "{services:?}");
    let (services, files) = reflected!(v1, &broker.url());
    check(&services, &files)?;
    ensure!(services.contains("grpc.reflection.v1.ServerReflection"), "{services:?}");
    Ok(broker.stop().await?)
}
