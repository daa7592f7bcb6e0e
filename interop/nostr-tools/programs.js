// Sotto's programs as processes. They are found in SOTTO_BIN_DIR, by default the debug build of
// the workspace.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { access, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const programs =
  process.env.SOTTO_BIN_DIR ?? fileURLToPath(new URL('../../target/debug', import.meta.url))

/** A relay and a file server on free ports of the loopback, and a folder for people's homes. */
export class World {
  static async start() {
    const world = new World()
    world.folder = await mkdtemp(join(tmpdir(), 'sotto-'))
    world.servers = []
    world.relay = await world.#serve('sotto-relay')
    world.files = await world.#serve('sotto-files')
    return world
  }

  async #serve(program) {
    const server = spawn(
      await built(program),
      ['run', '--json', '--listen', '127.0.0.1:0', '--data', join(this.folder, program)],
      { stdio: ['ignore', 'pipe', 'inherit'] }
    )
    this.servers.push(server)
    for await (const line of createInterface({ input: server.stdout })) {
      return JSON.parse(line).url
    }
    throw new Error(`${program} did not say where it listens`)
  }

  path(name) {
    return join(this.folder, name)
  }

  /** A new account, locked with a key file, that uses the two servers. */
  async account(name) {
    const sotto = new Sotto(this.path(name), this.path(`${name}.key`))
    const init = ['init', '--name', name, '--relay', this.relay, '--file-server', this.files]
    sotto.account = await sotto.object(...init, '--show-words')
    return sotto
  }

  async stop() {
    for (const server of this.servers) {
      const gone = new Promise(resolve => server.once('exit', resolve))
      if (server.exitCode === null && server.kill('SIGTERM')) await gone
    }
    await rm(this.folder, { recursive: true, force: true })
  }
}

/** An account of Sotto, used through the command line only. */
class Sotto {
  constructor(home, keyFile) {
    this.options = ['--home', home, '--key-file', keyFile, '--json', '--no-input', '--timeout', '20s']
  }

  get pubkey() {
    return this.account.pubkey
  }

  get words() {
    return [this.account.words].flat().join(' ')
  }

  /** Runs a command that must succeed and print one object a line. */
  async objects(...command) {
    const sotto = spawn(await built('sotto'), [...this.options, ...command], {
      stdio: ['ignore', 'pipe', 'pipe']
    })
    const closed = new Promise(resolve => sotto.once('close', resolve))
    const [out, err] = await Promise.all([whole(sotto.stdout), whole(sotto.stderr)])
    assert.equal(await closed, 0, `sotto ${command.join(' ')}: ${err}`)
    return out.split('\n').filter(Boolean).map(line => JSON.parse(line))
  }

  /** Runs a command that must succeed and print one object. */
  async object(...command) {
    const objects = await this.objects(...command)
    assert.equal(objects.length, 1)
    return objects[0]
  }

  /** Syncs, and returns the messages with somebody, oldest first. */
  async messages(who) {
    await this.object('sync')
    return this.objects('message', 'list', who)
  }
}

async function built(program) {
  const path = join(programs, program)
  await access(path).catch(() => {
    throw new Error(`${path} is not built; cargo xtask test builds it`)
  })
  return path
}

async function whole(stream) {
  let text = ''
  stream.setEncoding('utf8')
  for await (const piece of stream) text += piece
  return text
}
