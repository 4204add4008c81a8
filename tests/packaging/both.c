/* A program that links two static libraries written in Rust. */
#include <greenapi.h>

int other_answer(int number);

int main(void)
{
    if (other_answer(2) != 2 || other_answer(0) != -1)
        return 1;
    return greenapi_delete_instance(NULL, NULL, 0, NULL) != GREENAPI_STATUS_INVALID_ARGUMENT;
}
