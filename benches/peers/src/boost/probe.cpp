// Compiles where Boost's headers are installed.
#include <boost/interprocess/ipc/message_queue.hpp>
