import { concat } from '../lib/bytes.ts';
import { ioctlOn32, needs32Bit } from '../lib/calls-32.ts';
import { ecryptfsOnFuse } from '../lib/ecryptfs-on-fuse.ts';
import { u32 } from '../lib/entry-answer.ts';
import { guestTest } from '../lib/guest-test.ts';

/** By name: the number for 32-bit programs (linux/fs.h), and how many bytes the answer has room for. */
const KNOWN = {
  FITRIM: { request: 0xc018_5879, room: 24 },
  FS_IOC32_GETVERSION: { request: 0x8004_7601, room: 4 },
  FS_IOC32_SETVERSION: { request: 0x4004_7602, room: 0 },
} as const;
/** What the server answers. */
const ANSWER = 42;

guestTest('ecryptfs hands down each ioctl of 32-bit programs that it knows', async (t, guest) => {
  await needs32Bit(guest);
  await using client = await guest.client();
  await using stack = await ecryptfsOnFuse(guest, client);
  const { ecryptfs, fuse } = stack;
  await client.writeFile({ path: ecryptfs.file('f'), data: 'contents' });
  const fd = await client.open({ path: ecryptfs.file('f'), flags: 'O_RDWR' });
  for (const [name, { request, room }] of Object.entries(KNOWN)) {
    const body = concat(u32(ANSWER), u32(0), u32(0), u32(0), new Uint8Array(room));
    const answered = await fuse.rule({ match: { opcode: 'IOCTL' }, action: { do: 'body', body } });
    const after = await fuse.position();
    const call = { request, arg: new Uint8Array(24) };
    t.is(
      await ioctlOn32(guest, client, { pid: client.pid, fd }, call),
      ANSWER,
      `${name}: the server’s answer`,
    );
    const asked = await fuse.requests({ opcode: 'IOCTL', after });
    t.deepEqual(
      asked.map(({ args }) => args['cmd']),
      [request],
      `${name}: what it was asked`,
    );
    await answered();
  }
  await client.close({ fd });
});
