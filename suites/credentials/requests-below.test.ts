import { pattern } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import type { OpcodeName } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { REGISTRAR, registrarLauncher, registrarServer } from '../lib/registrar.ts';
import { openWithId } from '../lib/registration.ts';
import { Witness } from '../lib/witness.ts';

const CLIENT = { uid: 1000, gid: 1001 } as const;
/** `FUSE_WRITE_KILL_SUIDGID`: who writes may not keep setuid bits. */
const KILL_SUIDGID = 1 << 2;

/** Every way that data goes past the server, and what reaches the backing file. */
const WAYS: Readonly<
  Record<string, readonly [OpcodeName, (client: Client, fd: number) => Promise<unknown>]>
> = {
  read: ['READ', (client, fd) => client.errno.pread({ fd, count: 10, offset: 0 })],
  readv: ['READ', (client, fd) => client.errno.preadv2({ fd, counts: [3, 7], offset: 0 })],
  'asynchronous read': [
    'READ',
    (client, fd) => client.errno.aio({ operations: [{ op: 'pread', fd, count: 10, offset: 0 }] }),
  ],
  'splice from the file': ['READ', (client, fd) => spliceOut(client, fd)],
  write: ['WRITE', (client, fd) => client.errno.pwrite({ fd, data: 'ten bytes.', offset: 0 })],
  writev: [
    'WRITE',
    (client, fd) => client.errno.pwritev2({ fd, chunks: [pattern(3), pattern(7)], offset: 0 }),
  ],
  'asynchronous write': [
    'WRITE',
    (client, fd) => client.errno.aio({ operations: [{ op: 'pwrite', fd, data: pattern(10), offset: 0 }] }),
  ],
  'splice to the file': ['WRITE', (client, fd) => spliceIn(client, fd)],
};

async function spliceOut(client: Client, fd: number): Promise<void> {
  const [end, fdOut] = await client.pipe({});
  await client.errno.splice({ fdIn: fd, offIn: 0, fdOut, length: 10 });
  for (const one of [end, fdOut]) await client.close({ fd: one });
}

async function spliceIn(client: Client, fd: number): Promise<void> {
  const [fdIn, end] = await client.pipe({});
  await client.write({ fd: end, data: pattern(10) });
  await client.errno.splice({ fdIn, fdOut: fd, offOut: 0, length: 10 });
  for (const one of [fdIn, end]) await client.close({ fd: one });
}

/** A client of no privilege that does everything on one thread, so that what a call leaves behind is seen by the next. */
async function strangerOnOneThread(
  guest: TestGuest,
  witness: Witness,
): Promise<{ client: Client; fd: number }> {
  const client = await guest.client({ launcher: ['env', 'UV_THREADPOOL_SIZE=1'] });
  await client.writeFile({ path: witness.upper.backing('f'), data: pattern(100), mode: 0o600 });
  const fd = await client.open({ path: witness.upper.file('f'), flags: 'O_RDWR' });
  await client.setCredentials(CLIENT);
  return { client, fd };
}

guestTest(
  'reads and writes reach the backing file in the name of who registered it, and the client stays who it is (F1)',
  async (t, guest) => {
    await using server = await registrarServer(guest);
    await using witness = await Witness.mount(guest, { server });
    const { client, fd } = await strangerOnOneThread(guest, witness);
    await using _client = client;

    for (const outcome of ['that succeeds', 'that fails below'] as const) {
      const opcode = ['READ', 'WRITE'] as const;
      const takeBack =
        outcome === 'that fails below'
          ? await witness.lower.rule({ match: { opcode }, action: { do: 'error', errno: 'EIO' } })
          : undefined;
      for (const [what, [expected, work]] of Object.entries(WAYS)) {
        const after = await witness.lower.position();
        await work(client, fd);
        const sent = await witness.sent(opcode, after);
        // One that fails may be tried again: what counts is that there is no other kind of request.
        const kinds = [...new Set(sent.map((request) => `${request.opcode} ${request.uid}:${request.gid}`))];
        const inItsName = `${expected} ${REGISTRAR.uid}:${REGISTRAR.gid}`;
        t.deepEqual(kinds, [inItsName], `${what} ${outcome}: below`);

        const position = await witness.upper.position();
        await client.fstat({ fd });
        const own = await witness.upper.waitFor({ opcode: 'GETATTR', after: position });
        t.deepEqual(
          [own.uid, own.gid],
          [CLIENT.uid, CLIENT.gid],
          `${what} ${outcome}: the client afterwards`,
        );
      }
      await takeBack?.();
    }
    await client.close({ fd });
    t.deepEqual(await witness.upper.dataRequests(), []);
  },
);

guestTest('a client that maps a passthrough file stays who it is (F1)', async (t, guest) => {
  await using server = await registrarServer(guest);
  await using witness = await Witness.mount(guest, { server });
  const { client, fd } = await strangerOnOneThread(guest, witness);
  await using _client = client;

  // The filesystem below lets its files be mapped privately only.
  const map = await client.mmap({ fd, length: 100, prot: 'PROT_READ', flags: 'MAP_PRIVATE' });
  const position = await witness.upper.position();
  await client.fstat({ fd });
  const own = await witness.upper.waitFor({ opcode: 'GETATTR', after: position });
  t.deepEqual([own.uid, own.gid], [CLIENT.uid, CLIENT.gid], 'after the mapping was made');
  await client.munmap({ map });
  await client.close({ fd });
});

/** Who registers and who writes, one of them with CAP_FSETID. */
const WRITERS = [
  { registrar: 'a registrar without CAP_FSETID', writer: 'root', ordinary: false, kills: true },
  { registrar: 'a privileged registrar', writer: 'a stranger', ordinary: true, kills: false },
] as const;

for (const { registrar, writer, ordinary, kills } of WRITERS) {
  const verdict = kills ? 'may not keep' : 'may keep';
  guestTest(
    `${writer}’s writes to a file of ${registrar} ${verdict} setuid bits of the backing file (F1, F12)`,
    async (t, guest) => {
      await using server = ordinary ? await guest.server() : await registrarServer(guest);
      const lowerInit = { addFlags: ['HANDLE_KILLPRIV_V2'] as const };
      await using witness = await Witness.mount(guest, { server, lowerInit });
      await using root = await guest.client();
      await root.writeFile({ path: witness.upper.backing('f'), data: pattern(100) });
      const fd = await root.open({ path: witness.upper.file('f'), flags: 'O_RDWR' });
      if (writer !== 'root') await root.setCredentials(CLIENT);

      for (const what of ['write', 'asynchronous write', 'splice to the file']) {
        const after = await witness.lower.position();
        await WAYS[what]?.[1](root, fd);
        const sent = await witness.sent('WRITE', after);
        const flags = sent.map(({ args }) => (Number(args['write_flags']) & KILL_SUIDGID) !== 0);
        t.deepEqual(flags, [kills], what);
      }
      await root.close({ fd });
    },
  );
}

guestTest('who registers counts, not who had opened what is registered (F1, F2)', async (t, guest) => {
  // Taking over another process’s descriptor needs this one more.
  await using server = await guest.server({ launcher: registrarLauncher(['sys_ptrace']) });
  await using witness = await Witness.mount(guest, { server });
  await witness.upper.configure({ passthrough: 'off' });
  await using root = await guest.client();
  await root.writeFile({ path: witness.upper.backing('f'), data: pattern(100), mode: 0o666 });
  const { lower, upper } = witness;
  const opened = await root.open({ path: lower.file('f'), flags: 'O_RDWR' });
  const from = { pid: root.pid, fd: opened };
  const id = await upper.server.registerBacking(from);
  const fd = await openWithId(guest, root, { fuse: upper, id });
  for (const [what, [expected, work]] of Object.entries(WAYS)) {
    const after = await lower.position();
    await work(root, fd);
    const sent = await lower.requests({ opcode: ['READ', 'WRITE'], after });
    const kinds = [...new Set(sent.map((request) => `${request.opcode} ${request.uid}:${request.gid}`))];
    t.deepEqual(kinds, [`${expected} ${REGISTRAR.uid}:${REGISTRAR.gid}`], what);
  }
  for (const each of [fd, opened]) await root.close({ fd: each });
});
