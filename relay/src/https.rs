//! Requests to a certificate authority: HTTP/1.1 over TLS, one connection each, bounded in time
//! and size.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long one exchange may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of an answer.
const ANSWER_BYTES: usize = 1024 * 1024;

/// A client that trusts what its configuration trusts.
#[derive(Debug, Clone)]
pub struct Https(Arc<ClientConfig>);

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Https {
    /// See [`crate::tls::client`].
    pub fn new(config: Arc<ClientConfig>) -> Self {
        Self(config)
    }

    async fn exchange(
        self,
        mut request: hyper::Request<BodyWrapper<Bytes>>,
    ) -> Result<hyper::Response<Full<Bytes>>, Failure> {
        let uri = request.uri().clone();
        if uri.scheme_str() != Some("https") {
            return Err("the authority names an address that is not https".into());
        }
        let authority = uri.authority().ok_or("an address without a host")?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority.port_u16().unwrap_or(443);
        // Over one connection to one server, the request names the path alone.
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = path.parse()?;
        let value = authority.as_str().parse()?;
        request.headers_mut().insert(hyper::header::HOST, value);
        let stream = TcpStream::connect((host.as_str(), port)).await?;
        let stream = TlsConnector::from(self.0)
            .connect(ServerName::try_from(host)?, stream)
            .await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let exchange = async {
            let (head, body) = sender.send_request(request).await?.into_parts();
            let body = Limited::new(body, ANSWER_BYTES).collect().await?;
            Ok(hyper::Response::from_parts(
                head,
                Full::new(body.to_bytes()),
            ))
        };
        tokio::pin!(connection);
        tokio::select! {
            done = exchange => done,
            // Where it ends first, the exchange will say what it lacks; it cannot hang.
            ended = &mut connection => Err(match ended {
                Ok(()) => "the connection ended before the answer".into(),
                Err(error) => error.into(),
            }),
        }
    }
}

impl HttpClient for Https {
    fn request(
        &self,
        request: hyper::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let exchange = tokio::time::timeout(PATIENCE, self.clone().exchange(request));
        Box::pin(async move {
            match exchange.await {
                Ok(Ok(answer)) => Ok(BytesResponse::from(answer)),
                Ok(Err(error)) => Err(instant_acme::Error::Other(error)),
                Err(_) => Err(instant_acme::Error::Other("no answer in time".into())),
            }
        })
    }
}
