import { concat, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { ENTRY, entryAnswer, u32, u64 } from '../lib/entry-answer.ts';
import { NotifyCode, Opcode, type InitFlagName, type OpcodeName } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { answerRequest, nextRequest, openBody } from '../lib/raw-server.ts';

/** Servers of an older protocol than the kernel's: requests and answers are as long as they were then. */

/** Longer than any test. Seconds. */
const LONG = 100_000;
const ENOENT = -2;
/** `fuse_attr` as the last part of answers; it grew by 8 bytes with 7.9. */
const ATTR_BYTES = 88;
const DIRECTORY = 0o040755;
const TYPES: Partial<Record<OpcodeName, number>> = {
  LOOKUP: 0o100644,
  CREATE: 0o100644,
  LINK: 0o100644,
  MKNOD: 0o100644,
  MKDIR: DIRECTORY,
  SYMLINK: 0o120777,
  GETATTR: DIRECTORY,
  SETATTR: DIRECTORY,
};

function attributes(mode: number): Uint8Array {
  const attr = new Uint8Array(ATTR_BYTES);
  attr.set(u64(1n), 0);
  attr.set(u32(mode), 60);
  attr.set(u32(1), 64);
  return attr;
}

/** An answer of the newest protocol to a request that asks for an entry or for attributes. */
function newest(opcode: OpcodeName, nodeid: bigint): Uint8Array {
  if (opcode === 'STATFS') return new Uint8Array(80);
  const attr = attributes(TYPES[opcode] ?? 0);
  if (opcode === 'GETATTR' || opcode === 'SETATTR') return concat(u64(BigInt(LONG)), u64(0n), attr);
  const entry = entryAnswer({ nodeid, entryValidS: LONG });
  entry.set(u64(BigInt(LONG)), ENTRY.attrValid);
  entry.set(attr, ENTRY.attr);
  return entry;
}

/** Cut to so many bytes; an answer to CREATE has what one to OPEN has at its end. */
function answerOf(opcode: OpcodeName, nodeid: bigint, length: number): Uint8Array {
  const body = newest(opcode, nodeid);
  return opcode === 'CREATE'
    ? concat(body.subarray(0, length - 16), openBody(1n, 0, 0))
    : body.subarray(0, length);
}

interface Bench {
  readonly client: Client;
  readonly fuse: FuseMount;
  readonly server: Client;
  readonly device: number;
}

/** What sends the request, on a name of four letters. */
const CALLS: Partial<Record<OpcodeName, (bench: Bench, path: string) => Promise<string>>> = {
  STATFS: ({ client, fuse }) => client.errno.statfs({ path: fuse.path }),
  LOOKUP: ({ client }, path) => client.errno.stat({ path }),
  GETATTR: ({ client, fuse }) => client.errno.stat({ path: fuse.path, flags: 'AT_STATX_FORCE_SYNC' }),
  SETATTR: ({ client, fuse }) => client.errno.chmod({ path: fuse.path, mode: 0o755 }),
  MKDIR: ({ client }, path) => client.errno.mkdir({ path }),
  MKNOD: ({ client }, path) => client.errno.mknod({ path, mode: 0o100644 }),
  SYMLINK: ({ client }, path) => client.errno.symlink({ target: 'where', path }),
  CREATE: ({ client }, path) => client.errno.open({ path, flags: 'O_RDWR|O_CREAT' }),
  LINK: ({ client, fuse }, to) => client.errno.link({ from: fuse.file('from'), to }),
};

/** Bytes of a request behind its header, without the names; and of an answer behind its own. */
type Lengths = Partial<Record<OpcodeName, readonly [request: number, answer: number]>>;

/** Names that a request ends with: four letters and a NUL, and the target of the link. */
const NAMES: Partial<Record<OpcodeName, number>> = {
  LOOKUP: 5,
  MKDIR: 5,
  MKNOD: 5,
  SYMLINK: 11,
  CREATE: 5,
  LINK: 5,
};

const BEFORE_9: Lengths = {
  LOOKUP: [0, 120],
  GETATTR: [16, 96],
  SETATTR: [88, 96],
  MKDIR: [8, 120],
  MKNOD: [8, 120],
  SYMLINK: [0, 120],
  CREATE: [8, 136],
  LINK: [8, 120],
};
const SINCE_9: Lengths = {
  LOOKUP: [0, 128],
  GETATTR: [16, 104],
  SETATTR: [88, 104],
  MKDIR: [8, 128],
  MKNOD: [8, 128],
  SYMLINK: [0, 128],
  CREATE: [8, 144],
  LINK: [8, 128],
};

/** include/uapi/linux/fuse.h: 7.4 made answers to STATFS longer, 7.9 those with attributes, 7.12 requests with a umask. */
const PROTOCOLS: readonly (readonly [minor: number, Lengths])[] = [
  [3, { ...BEFORE_9, STATFS: [0, 48] }],
  [4, { STATFS: [0, 80] }],
  [8, BEFORE_9],
  [9, SINCE_9],
  [11, { MKNOD: [8, 128], CREATE: [8, 144] }],
  [12, { MKNOD: [16, 128], CREATE: [16, 144], MKDIR: [8, 128] }],
];

/** A mount whose server has answered INIT and nothing else, and a client in its place. */
async function handOver(
  guest: TestGuest,
  client: Client,
  minor: number,
): Promise<Bench & { readonly server: Client }> {
  const fuse = await guest.mountFuse({ passthrough: 'off', init: { minor } });
  const server = await guest.client();
  const device = await fuse.server.lendDevice(server);
  await fuse.server.kill('SIGKILL');
  return { client, fuse, server, device };
}

let nextNode = 100n;

/** Answers names that are asked for on the way, then the request itself. @returns its length and what was said of the answer. */
async function answerOne(
  { server, device }: Bench,
  opcode: OpcodeName,
  { entry, length }: { readonly entry: number; readonly length: number },
): Promise<{ asked: number; taken: string }> {
  for (;;) {
    const { unique, args, ...request } = await nextRequest(server, device);
    if (request.opcode === Opcode.FORGET || request.opcode === Opcode.BATCH_FORGET) continue;
    if (request.opcode === Opcode[opcode]) {
      const body = answerOf(opcode, nextNode++, length);
      return { asked: args.length, taken: await answerRequest(server, device, { unique, body }) };
    }
    if (request.opcode !== Opcode.LOOKUP) throw new Error(`opcode ${request.opcode} before ${opcode}`);
    const there = Buffer.from(args).toString() === 'from\0';
    const body = answerOf('LOOKUP', nextNode++, entry);
    await answerRequest(server, device, there ? { unique, body } : { unique, error: ENOENT });
  }
}

for (const [minor, lengths] of PROTOCOLS) {
  guestTest(
    `to a server of protocol 7.${minor} requests are as long as they were, and so have its answers to be (B25)`,
    async (t, guest) => {
      await using client = await guest.client();
      const bench = await handOver(guest, client, minor);
      await using fuse = bench.fuse;
      await using _server = bench.server;
      const entry = minor < 9 ? 120 : 128;
      let made = 0;
      for (const [name, [request, answer]] of Object.entries(lengths)) {
        const opcode = name as OpcodeName;
        const call = CALLS[opcode];
        if (call === undefined) throw new Error(`no call for ${opcode}`);
        const once = async (length: number): Promise<[string, string]> => {
          const calling = call(bench, fuse.file(`f${String(100 + made++)}`));
          const { asked, taken } = await answerOne(bench, opcode, { entry, length });
          t.is(asked, request + (NAMES[opcode] ?? 0), `${opcode}: bytes of the request`);
          return [taken, await calling];
        };
        const wrong = opcode === 'STATFS' ? 128 - answer : answer + 8 * (minor < 9 ? 1 : -1);
        t.deepEqual(await once(wrong), ['EINVAL', 'EIO'], `${opcode}: an answer of ${wrong} bytes`);
        t.deepEqual(await once(answer), ['ok', 'ok'], `${opcode}: an answer of ${answer} bytes`);
      }
      // What was created is open: its end waits for no answer then.
      await fuse.abort();
    },
  );
}

/** Who decides about flock(2): with a flag of its own since 7.17, before that with POSIX_LOCKS. */
const FLOCKS: readonly (readonly [minor: number, InitFlagName | null, asksServer: boolean])[] = [
  [16, null, false],
  [16, 'POSIX_LOCKS', true],
  [16, 'FLOCK_LOCKS', false],
  [17, null, false],
  [17, 'POSIX_LOCKS', false],
  [17, 'FLOCK_LOCKS', true],
];

guestTest(
  'flock is the server’s with FLOCK_LOCKS since protocol 7.17, and with POSIX_LOCKS before it (B25)',
  async (t, guest) => {
    await using client = await guest.client();
    for (const [minor, flag, asksServer] of FLOCKS) {
      const addFlags = flag === null ? [] : [flag];
      await using fuse = await guest.mountFuse({ init: { minor, addFlags } });
      await fuse.fail({ opcode: ['SETLK', 'SETLKW'] }, 'EIO');
      await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
      const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
      const what = `7.${minor} with ${flag ?? 'neither flag'}`;
      const errno = await client.errno.flock({ fd, operation: 'LOCK_EX|LOCK_NB' });
      t.is(errno, asksServer ? 'EIO' : 'ok', what);
      const asked = await fuse.opcodes({ opcode: ['SETLK', 'SETLKW'] });
      t.deepEqual(asked, asksServer ? ['SETLK'] : [], `${what}: what the server is asked`);
      await client.close({ fd });
    }
  },
);

guestTest(
  'POSIX locks are the server’s with POSIX_LOCKS since protocol 7.6, and no lock is before that (B25)',
  async (t, guest) => {
    await using client = await guest.client();
    const addFlags = ['POSIX_LOCKS', 'FLOCK_LOCKS'] as const;
    for (const [minor, init, asked] of [
      [5, { addFlags }, []],
      [6, { addFlags }, ['SETLK', 'SETLK']],
      [6, {}, []],
      [17, { addFlags: ['POSIX_LOCKS'] }, ['SETLK']],
    ] as const) {
      await using fuse = await guest.mountFuse({ passthrough: 'off', init: { ...init, minor } });
      await fuse.fail({ opcode: ['SETLK', 'SETLKW', 'FLUSH', 'RELEASE', 'FORGET', 'BATCH_FORGET'] }, 'EIO');
      for (const [opcode, body] of [
        ['LOOKUP', answerOf('LOOKUP', nextNode++, minor < 9 ? 120 : 128)],
        ['OPEN', openBody(1n, 0, 0)],
      ] as const) {
        await fuse.rule({ match: { opcode }, action: { do: 'body', body } });
      }
      const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
      const what = `7.${minor} with ${JSON.stringify(init)}`;
      const errnos = [
        await client.errno.setlk({ fd, type: 'F_WRLCK', start: 0, length: 8 }),
        await client.errno.flock({ fd, operation: 'LOCK_EX|LOCK_NB' }),
      ];
      t.deepEqual(errnos, [asked.length > 0 ? 'EIO' : 'ok', asked.length > 1 ? 'EIO' : 'ok'], what);
      const sent = await fuse.opcodes({ opcode: ['SETLK', 'SETLKW'] });
      t.deepEqual(sent, [...asked], `${what}: what the server is asked of a POSIX lock and of flock`);
      await client.errno.close({ fd });
    }
  },
);

const KIB = 1024;
/** What the answer to INIT asks for, and what there is without it: nothing of it is the default. */
const LIMITS = {
  maxWrite: 64 * KIB,
  maxReadahead: 16 * KIB,
  maxBackground: 40,
  congestionThreshold: 7,
} as const;
/** `fuse_in_header` and `fuse_write_in`, before the data of a WRITE; and FUSE_MIN_READ_BUFFER. Bytes. */
const BEFORE_DATA = 40 + 40;
const LEAST_ROOM = 8 * KIB;

guestTest(
  'max_write counts since protocol 7.5, max_readahead since 7.6, and how much may be under way since 7.13 (B25)',
  async (t, guest) => {
    await using client = await guest.client();
    for (const minor of [4, 5, 6, 12, 13]) {
      const options = { passthrough: 'off', maxRead: 64 * KIB, init: { minor, ...LIMITS } } as const;
      await using fuse = await guest.mountFuse(options);
      const number = async (path: string): Promise<number> => Number(text(await client.readFile({ path })));
      const connection = `/sys/fs/fuse/connections/${fuse.connection}`;
      t.deepEqual(
        {
          readAheadKib: await number(`/sys/class/bdi/0:${fuse.connection}/read_ahead_kb`),
          background: await number(`${connection}/max_background`),
          congestion: await number(`${connection}/congestion_threshold`),
        },
        {
          // Without the word of the server it is max_read, where that is less than usual.
          readAheadKib: minor < 6 ? 64 : 16,
          background: minor < 13 ? 12 : 40,
          congestion: minor < 13 ? 9 : 7,
        },
        `7.${minor}`,
      );
      await using server = await guest.client();
      const device = await fuse.server.lendDevice(server);
      await fuse.server.kill('SIGKILL');
      const room = minor < 5 ? LEAST_ROOM : LIMITS.maxWrite + BEFORE_DATA;
      t.is(await server.errno.read({ fd: device, count: room - 1 }), 'EINVAL', `7.${minor}: too little room`);
      t.is(await server.errno.read({ fd: device, count: room }), 'EAGAIN', `7.${minor}: room for a WRITE`);
    }
  },
);

/** FUSE_NOTIFY_INVAL_ENTRY of a name in the root. */
function invalidate({ server, device }: Bench, name: string): Promise<string> {
  const head = new Uint8Array(16);
  head.set(u64(1n), 0);
  head.set(u32(name.length), 8);
  const body = concat(head, new Uint8Array(Buffer.from(`${name}\0`)));
  return answerRequest(server, device, { unique: 0n, error: NotifyCode.INVAL_ENTRY, body });
}

for (const [minor, opcodes, bytes] of [
  [15, ['FORGET', 'FORGET', 'FORGET'], 8],
  [16, ['BATCH_FORGET'], 8 + 3 * 16],
] as const) {
  guestTest(
    `three nodes are forgotten with ${opcodes.length} ${opcodes[0]} by protocol 7.${minor} (B25)`,
    async (t, guest) => {
      await using client = await guest.client();
      await using fuse = await guest.mountFuse({ init: { minor }, entryValidS: LONG, attrValidS: LONG });
      await using server = await guest.client();
      const names = ['one', 'two', 'three'];
      for (const name of names) {
        await client.writeFile({ path: fuse.backing(name), data: name });
        await client.stat({ path: fuse.file(name) });
      }
      const nodes = await Promise.all(names.map((name) => fuse.nodeid(`/${name}`)));
      const device = await fuse.server.lendDevice(server);
      await fuse.server.kill('SIGKILL');
      for (const name of names)
        t.is(await invalidate({ client, fuse, server, device }, name), 'ok', `${name} is forgotten`);
      const forgotten: bigint[] = [];
      for (const opcode of opcodes) {
        const request = await nextRequest(server, device);
        t.is(request.opcode, Opcode[opcode]);
        t.is(request.args.length, bytes, 'bytes behind the header');
        const view = new DataView(request.args.buffer, request.args.byteOffset);
        if (opcode === 'FORGET') forgotten.push(request.nodeid);
        else for (const at of [8, 24, 40]) forgotten.push(view.getBigUint64(at, true));
      }
      t.deepEqual(forgotten, nodes.map(BigInt), 'in the order in which they were forgotten');
      t.is(await server.poll({ fd: device }), 'out', 'no more of them');
    },
  );
}
