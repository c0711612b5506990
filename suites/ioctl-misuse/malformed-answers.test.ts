import { text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import { openErrno } from '../lib/open-errno.ts';

/** An answer to OPEN: header with this length and error, and so many bytes behind the header. */
function openAnswer(length: number, error: number, bodyBytes: number): Uint8Array {
  const bytes = new Uint8Array(16 + bodyBytes);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, length, true);
  view.setInt32(4, error, true);
  return bytes;
}

const MALFORMED = {
  'is too short': { bytes: openAnswer(24, 0, 8), refused: 'EINVAL' },
  'is too long': { bytes: openAnswer(48, 0, 32), refused: 'EINVAL' },
  'has an error that is none': { bytes: openAnswer(16, -600, 0), refused: 'EINVAL' },
  'has a positive error': { bytes: openAnswer(16, 5, 0), refused: 'EINVAL' },
  'has an error and a body': { bytes: openAnswer(32, -5, 16), refused: 'EINVAL' },
  'lies about its length': { bytes: openAnswer(64, 0, 16), refused: 'EINVAL' },
} as const;

for (const [what, { bytes, refused }] of Object.entries(MALFORMED)) {
  guestTest(`an answer to OPEN that ${what} is refused, and the mount works on (B24)`, async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const hold = await fuse.hold({ opcode: 'OPEN', path: '/f' });
    const opening = openErrno(client, fuse.file('f'));
    const request = await hold.arrived();
    const named = Uint8Array.from(bytes);
    new DataView(named.buffer).setBigUint64(8, BigInt(request.unique), true);
    t.is(await fuse.server.writeDevice(named), refused);
    await hold.release(request).catch(() => undefined);
    await hold.stop();
    t.true(['ok', 'EIO'].includes(await opening), 'the caller is not left waiting');
    t.is(text(await client.readFile({ path: fuse.file('f') })), 'contents');
    t.deepEqual(await fuse.dataRequests(), []);
  });
}

guestTest('an answer to a request that does not exist is refused with ENOENT (B24)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  const stray = openAnswer(32, 0, 16);
  new DataView(stray.buffer).setBigUint64(8, 0x7fff_fff0n, true);
  t.is(await fuse.server.writeDevice(stray), 'ENOENT');
});
