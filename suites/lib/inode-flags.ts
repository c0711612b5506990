import type { TestGuest } from './guest.ts';

/** Which of these flags of chattr(1) lsattr(1) tells of a file or a directory. */
export async function flagsOf(guest: TestGuest, path: string, letters: string): Promise<string> {
  const { stdout } = await guest.run(['lsattr', '-d', path]);
  return (stdout.split(' ')[0] ?? '').replaceAll(new RegExp(`[^${letters}]`, 'g'), '');
}
