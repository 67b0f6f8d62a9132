/**
 * The cluster's own authority: a CA that is made for one tree, and a certificate for every node. Without one a node can
 * neither join nor be joined. Keys are P-256, made by WebCrypto and used by TLS 1.3.
 */
import { createHash, type KeyObject, sign, verify, webcrypto } from "node:crypto";

export interface Identity {
  /** PEM: the authority's certificate, the node's own, its private key. */
  ca: string;
  cert: string;
  key: string;
}

export interface Authority {
  cert: string;
  key: string;
}

/** Signed by the authority: which nodes may speak for a host besides itself, its ancestors, which relay its messages. */
export interface Pass {
  relays: string[];
  signature: string;
}

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const DAY_MS = 86_400_000;

async function library() {
  // Must be loaded before the library, for its dependency injection.
  await import("reflect-metadata");
  const x509 = await import("@peculiar/x509");
  x509.cryptoProvider.set(webcrypto as never);
  return x509;
}

async function pem(key: webcrypto.CryptoKey): Promise<string> {
  const der = Buffer.from(await webcrypto.subtle.exportKey("pkcs8", key)).toString("base64");
  return `-----BEGIN PRIVATE KEY-----\n${der.match(/.{1,64}/g)!.join("\n")}\n-----END PRIVATE KEY-----\n`;
}

const serial = () =>
  Buffer.from(webcrypto.getRandomValues(new Uint8Array(16)))
    .toString("hex")
    .replace(/^[89a-f]/, "7");
const validity = (days: number) => ({
  notBefore: new Date(Date.now() - DAY_MS),
  notAfter: new Date(Date.now() + days * DAY_MS),
});

/**
 * As long as a tree may be up, because nothing renews a certificate. It stops being valid with its authority, which is
 * made anew for the next tree.
 */
const LIFE_DAYS = 3650;

export async function makeAuthority(cluster: string): Promise<Authority> {
  const x509 = await library();
  const keys = (await webcrypto.subtle.generateKey(ALGORITHM, true, [
    "sign",
    "verify",
  ])) as webcrypto.CryptoKeyPair;
  const cert = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serial(),
    name: `CN=MegaTux ${cluster}`,
    ...validity(LIFE_DAYS),
    signingAlgorithm: ALGORITHM,
    keys: keys as never,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
    ],
  });
  return { cert: cert.toString("pem"), key: await pem(keys.privateKey) };
}

/** A new key pair for a node: the public key as base64 (SPKI), the private key as PEM. */
export async function makeKey(): Promise<{ publicKey: string; key: string }> {
  const keys = (await webcrypto.subtle.generateKey(ALGORITHM, true, [
    "sign",
    "verify",
  ])) as webcrypto.CryptoKeyPair;
  const spki = await webcrypto.subtle.exportKey("spki", keys.publicKey);
  return { publicKey: Buffer.from(spki).toString("base64"), key: await pem(keys.privateKey) };
}

/** A key and a certificate for one node, in its name; `days` may be negative, to test expiry. */
export async function issue(authority: Authority, name: string, days = LIFE_DAYS): Promise<Identity> {
  const { publicKey, key } = await makeKey();
  return { ca: authority.cert, cert: await certify(authority, name, publicKey, days), key };
}

/** A certificate (PEM) for a node that has made its key itself. Throws where `publicKey` is no key. */
export async function certify(
  authority: Authority,
  name: string,
  publicKey: string,
  days = LIFE_DAYS,
): Promise<string> {
  const x509 = await library();
  const ca = new x509.X509Certificate(authority.cert);
  const der = Buffer.from(authority.key.replace(/-----[^-]+-----|\s/g, ""), "base64");
  const signingKey = await webcrypto.subtle.importKey("pkcs8", der, ALGORITHM, false, ["sign"]);
  const spki = Buffer.from(publicKey, "base64");
  const cert = await x509.X509CertificateGenerator.create({
    serialNumber: serial(),
    subject: `CN=${name}`,
    issuer: ca.subject,
    ...validity(days),
    signingAlgorithm: ALGORITHM,
    publicKey: (await webcrypto.subtle.importKey("spki", spki, ALGORITHM, true, ["verify"])) as never,
    signingKey: signingKey as never,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([
        x509.ExtendedKeyUsage.serverAuth,
        x509.ExtendedKeyUsage.clientAuth,
      ]),
      new x509.SubjectAlternativeNameExtension([{ type: "dns", value: dnsName(name) }]),
    ],
  });
  return cert.toString("pem");
}

export function issuePass(authority: Authority, host: string, relays: string[]): Pass {
  return { relays, signature: sign("sha256", passText(host, relays), authority.key).toString("base64") };
}

/** Whether the authority with this public key has issued this pass to this host. */
export function passHolds(authority: KeyObject, host: string, pass: Pass): boolean {
  return verify("sha256", passText(host, pass.relays), authority, Buffer.from(pass.signature, "base64"));
}

const passText = (host: string, relays: string[]) => Buffer.from(JSON.stringify(["pass", host, ...relays]));

/** A node's name as a DNS name, which TLS checks: an id may have other characters, and more than 63. */
export const dnsName = (name: string) =>
  `${createHash("sha256").update(name).digest("hex").slice(0, 40)}.megatux`;
