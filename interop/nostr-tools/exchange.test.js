// nostr-tools and Sotto write to each other through Sotto's relay and file server.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { after, before, beforeEach, afterEach, test } from 'node:test'
import * as nip06 from 'nostr-tools/nip06'
import * as nip19 from 'nostr-tools/nip19'
import { getEventHash } from 'nostr-tools/pure'
import { Foreign, download, sha256, tag, upload } from './foreign.js'
import { World } from './programs.js'

const text = 'Grüße — ¿qué tal? 🌒\nsecond line "quoted"'

let world
let anna
let ben

before(async () => {
  world = await World.start()
  anna = await world.account('anna')
})

after(() => world?.stop())

// Anna is the same throughout; each test has a Ben of its own, so none sees another's messages.
beforeEach(async () => {
  ben = new Foreign(world.relay)
  await ben.publishInboxRelays()
})

afterEach(() => ben?.leave())

test('a text of nostr-tools arrives as a request, and acceptance keeps it', async () => {
  await ben.sendText(anna.pubkey, text)
  const [message, ...others] = await anna.messages(ben.npub)
  assert.deepEqual(others, [])
  assert.equal(message.text, text)
  assert.equal(message.kind, 'text')
  assert.equal(message.direction, 'in')
  assert.equal(message.from, ben.pubkey)
  assert.equal(message.request, true)

  await anna.object('contact', 'add', ben.npub)
  const [accepted] = await anna.messages(ben.npub)
  assert.equal(accepted.id, message.id)
  assert.equal(accepted.request, false)
})

test('a text of sotto is opened by nostr-tools', async () => {
  await anna.object('contact', 'add', ben.npub)
  const sent = await anna.object('send', ben.npub, text)

  const [rumor, ...others] = await ben.inbox()
  assert.deepEqual(others, [])
  assert.equal(rumor.pubkey, anna.pubkey)
  assert.equal(rumor.kind, 14)
  assert.equal(rumor.content, text)
  assert.equal(tag(rumor, 'p'), ben.pubkey)
  assert.equal(getEventHash(rumor), sent.id)
})

test('an invite of sotto is a link that nostr-tools reads, own fields and all', async () => {
  const { link } = await anna.object('invite')
  const { type, data } = nip19.decodeNostrURI(link)
  assert.equal(type, 'nprofile')
  assert.equal(data.pubkey, anna.pubkey)
  assert.deepEqual(
    data.relays.map(url => new URL(url).href),
    [new URL(world.relay).href]
  )
})

test('the relay hands wraps only to their recipient', async () => {
  await anna.object('contact', 'add', ben.npub)
  await anna.object('send', ben.npub, 'for Ben alone')
  assert.equal((await ben.wraps()).length, 1)

  const stranger = new Foreign(world.relay)
  const filter = { kinds: [1059], '#p': [ben.pubkey] }
  const withWrongKey = await stranger.fetch(filter)
  assert.deepEqual(withWrongKey.events, [])
  stranger.leave()
  const silent = new Foreign(world.relay)
  const withoutAuth = await silent.fetch(filter, undefined)
  assert.deepEqual(withoutAuth.events, [])
  silent.leave()
})

test('a file of a NIP-17 client is fetched and opened by sotto', async () => {
  await anna.object('contact', 'add', ben.npub)
  const plain = randomBytes(70_001)
  await ben.sendRumor(anna.pubkey, await upload(world.files, anna.pubkey, plain, 'application/pdf'))

  const [message] = await anna.messages(ben.npub)
  assert.equal(message.kind, 'file')
  assert.equal(message.files[0].mime, 'application/pdf')
  const to = world.path('received.pdf')
  const saved = await anna.object('file', 'get', message.id, '-o', to)
  assert.equal(saved.sha256, sha256(plain))
  assert.equal(saved.size, plain.length)
  assert.ok(plain.equals(await readFile(to)))
})

test('a file of sotto comes as aes-gcm to who never showed a sotto tag', async () => {
  await anna.object('contact', 'add', ben.npub)
  const plain = randomBytes(200_003)
  const from = world.path('figures.bin')
  await writeFile(from, plain)
  await anna.object('send', ben.npub, '--file', from)

  const [rumor, ...others] = await ben.inbox()
  assert.deepEqual(others, [])
  assert.equal(rumor.pubkey, anna.pubkey)
  assert.equal(tag(rumor, 'ox'), sha256(plain))
  assert.ok(plain.equals(await download(rumor)))
})

test('the deletion secret in the self-copy is ignored by nostr-tools', async () => {
  await anna.object('contact', 'add', ben.npub)
  const sent = await anna.object('send', ben.npub, 'kept for my other devices')

  // Anna's seed words in a foreign client give the same key (NIP-06), hence her self-copies.
  const secret = nip06.privateKeyFromSeedWords(anna.words)
  const elsewhere = new Foreign(world.relay, secret)
  assert.equal(elsewhere.pubkey, anna.pubkey)
  const wraps = await elsewhere.wraps()
  const copy = wraps.find(wrap => JSON.parse(elsewhere.rumorJson(wrap)).id === sent.id)
  assert.match(JSON.parse(elsewhere.rumorJson(copy)).sotto_d, /^[0-9a-f]{64}$/)
  const rumor = (await elsewhere.inbox()).find(({ id }) => id === sent.id)
  assert.equal(rumor.content, 'kept for my other devices')
  assert.equal(getEventHash(rumor), sent.id)
  elsewhere.leave()

  // And it goes to nobody else.
  for (const wrap of await ben.wraps()) {
    assert.ok(!ben.rumorJson(wrap).includes('sotto_d'))
  }
})

test('two people with nostr-tools can use our servers alone', async () => {
  const cleo = new Foreign(world.relay)
  const plain = randomBytes(5_000)
  await ben.sendText(cleo.pubkey, text)
  await ben.sendRumor(cleo.pubkey, await upload(world.files, cleo.pubkey, plain, 'image/png'))

  const inbox = (await cleo.inbox()).sort((a, b) => a.kind - b.kind)
  assert.deepEqual(inbox.map(({ kind }) => kind), [14, 15])
  assert.equal(inbox[0].content, text)
  assert.ok(plain.equals(await download(inbox[1])))
  assert.deepEqual(await ben.inbox(), [])
  cleo.leave()
})
