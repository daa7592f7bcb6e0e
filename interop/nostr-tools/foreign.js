// The other person, who runs nostr-tools.

import { createCipheriv, createDecipheriv, createHash, randomBytes, webcrypto } from 'node:crypto'
import assert from 'node:assert/strict'
import * as nip17 from 'nostr-tools/nip17'
import * as nip19 from 'nostr-tools/nip19'
import * as nip44 from 'nostr-tools/nip44'
import * as nip59 from 'nostr-tools/nip59'
import { SimplePool, useWebSocketImplementation } from 'nostr-tools/pool'
import { finalizeEvent, generateSecretKey, getPublicKey } from 'nostr-tools/pure'
import WebSocket from 'ws'

// Node has a WebSocket of its own from version 22 on, and Web Crypto unasked from 20 on.
globalThis.crypto ??= webcrypto
useWebSocketImplementation(WebSocket)

// Long enough for a loaded machine; nothing waits for it when all is well.
const patience = 20_000

// nostr-tools keeps the timers of subscriptions that have ended; the process need not wait for them.
const startTimer = globalThis.setTimeout
globalThis.setTimeout = (work, delay, ...rest) => {
  const timer = startTimer(work, delay, ...rest)
  return delay === patience ? timer.unref() : timer
}

export class Foreign {
  constructor(relay, secret = generateSecretKey()) {
    this.relay = relay
    this.secret = secret
    this.pubkey = getPublicKey(secret)
    this.npub = nip19.npubEncode(this.pubkey)
    this.pool = new SimplePool()
    this.sign = async draft => finalizeEvent(draft, secret)
  }

  /** Publishes the list of inbox relays, without which nobody may write. */
  async publishInboxRelays() {
    const tags = [['relay', this.relay]]
    await this.publish(await this.sign({ kind: 10050, created_at: now(), tags, content: '' }))
  }

  /** Sends a text as nostr-tools does it (NIP-17). */
  async sendText(to, text) {
    await this.publish(nip17.wrapEvent(this.secret, { publicKey: to, relayUrl: this.relay }, text))
  }

  /** Seals and wraps any rumor and sends it. */
  async sendRumor(to, rumor) {
    await this.publish(nip59.wrapEvent(rumor, this.secret, to))
  }

  async publish(event) {
    await Promise.all(this.pool.publish([this.relay], event, { onauth: this.sign }))
  }

  /** Everything the relay hands out for a filter, with AUTH where it asks for that. */
  fetch(filter, onauth = this.sign) {
    return new Promise(resolve => {
      const events = []
      this.pool.subscribeManyEose([this.relay], filter, {
        onauth,
        maxWait: patience,
        onevent: event => events.push(event),
        onclose: reasons => resolve({ events, reasons: reasons.map(String) })
      })
    })
  }

  async wraps() {
    const { events } = await this.fetch({ kinds: [1059], '#p': [this.pubkey] })
    return events
  }

  /** Every message in the inbox, opened by nostr-tools. All must open. */
  async inbox() {
    const wraps = await this.wraps()
    return wraps.map(wrap => nip17.unwrapEvent(wrap, this.secret))
  }

  /** What stands in the seal of a wrap for this key. */
  rumorJson(wrap) {
    const open = event =>
      nip44.decrypt(event.content, nip44.getConversationKey(this.secret, event.pubkey))
    return open(JSON.parse(open(wrap)))
  }

  leave() {
    this.pool.close([this.relay])
  }
}

/** Encrypts and uploads a file, and returns the rumor of a NIP-17 file message. */
export async function upload(server, to, plain, mime) {
  const key = randomBytes(32)
  // NIP-17 does not fix the length; 16 bytes are in use as well as 12.
  const nonce = randomBytes(16)
  const cipher = createCipheriv('aes-256-gcm', key, nonce)
  const blob = Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()])
  const answer = await fetch(`${server}/upload`, {
    method: 'PUT',
    headers: {
      authorization: token(sha256(blob), server),
      'content-type': 'application/octet-stream'
    },
    body: blob
  })
  assert.ok(answer.ok, `${answer.status} ${answer.headers.get('x-reason')}`)
  const descriptor = await answer.json()
  assert.equal(descriptor.sha256, sha256(blob))
  assert.equal(descriptor.size, blob.length)
  return {
    kind: 15,
    content: descriptor.url,
    tags: [
      ['p', to],
      ['file-type', mime],
      ['encryption-algorithm', 'aes-gcm'],
      ['decryption-key', key.toString('hex')],
      ['decryption-nonce', nonce.toString('hex')],
      ['x', sha256(blob)],
      ['ox', sha256(plain)],
      ['size', String(blob.length)]
    ]
  }
}

/** Fetches and opens the file of a kind 15 rumor, knowing NIP-17 and nothing of Sotto. */
export async function download(rumor) {
  assert.equal(rumor.kind, 15)
  assert.equal(tag(rumor, 'encryption-algorithm'), 'aes-gcm')
  const answer = await fetch(rumor.content)
  assert.equal(answer.status, 200)
  const blob = Buffer.from(await answer.arrayBuffer())
  assert.equal(sha256(blob), tag(rumor, 'x'))
  const key = Buffer.from(tag(rumor, 'decryption-key'), 'hex')
  const nonce = Buffer.from(tag(rumor, 'decryption-nonce'), 'hex')
  const cipher = createDecipheriv('aes-256-gcm', key, nonce)
  cipher.setAuthTag(blob.subarray(-16))
  return Buffer.concat([cipher.update(blob.subarray(0, -16)), cipher.final()])
}

export function tag(rumor, name) {
  return rumor.tags.find(([first]) => first === name)?.[1]
}

export function sha256(bytes) {
  return createHash('sha256').update(bytes).digest('hex')
}

/** Allows one upload (BUD-11); signed by a key of its own, so the server learns nobody's name. */
function token(hash, server) {
  const tags = [
    ['t', 'upload'],
    ['x', hash],
    ['server', new URL(server).hostname],
    ['expiration', String(now() + 300)]
  ]
  const draft = { kind: 24242, created_at: now(), tags, content: 'Upload' }
  const event = finalizeEvent(draft, generateSecretKey())
  return `Nostr ${Buffer.from(JSON.stringify(event)).toString('base64url')}`
}

function now() {
  return Math.floor(Date.now() / 1000)
}
